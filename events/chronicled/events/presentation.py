"""How events are shown to readers: in current versions, in older ones that a reader declares, or as they are stored."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from chronicled.events.codec import Codec, encode_json
from chronicled.events.envelope import Category, Event, Stored
from chronicled.events.errors import VersionUnavailable
from chronicled.events.opaque import Opaque
from chronicled.events.plain import typed
from chronicled.events.unit_stuck import UnitStuck
from chronicled.events.versions import CURRENT, Versions

__all__ = ["Presentation"]

READERS_MAX: Final = 64
"""Declarations of versions that are remembered."""
Key = tuple[Category, str, int]

_raws = msgspec.json.Decoder(list[msgspec.Raw])
_raw = msgspec.json.Decoder(msgspec.Raw)
_plain = msgspec.json.Decoder()


class Presentation:
    """Shows events; stored ones never change for it. Pure, but for what it remembers of declared versions.

    An event is shown in its kind's current version and name, with `stored` where it stands otherwise in the log. One
    that cannot be read is shown as it is stored, with `opaque` saying why; if its payload is not even JSON, a string
    shows the bytes in base64. Events that are current are passed on as they are.

    Args:
        codec: Reads and migrates payloads.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self._as_they_are: dict[Versions, frozenset[Key]] = {}
        self._stuck: set[tuple[str, int]] = set()
        """Kinds and versions whose way back did not end."""

    def check(self, versions: Versions, position: int) -> None:
        """Check that every event of the kinds that a reader declares can be shown to it, whatever the log holds.

        For answers that cannot be refused any more once they have begun.

        Raises:
            VersionUnavailable: there is no way from a current version to the declared one; names `position`.
        """
        if not versions.newest:
            return
        newest, chain, registry = dict(versions.newest), self.codec.upcasters, self.codec.registry
        for spec in registry:
            if registry.find_current(*spec.key) is spec and self._declared(spec.kind, newest):
                category, kind, version = spec.key
                while not _understood(kind, version, newest):
                    back = None if chain is None else chain.before(category, kind, version)
                    if back is None:
                        raise _unavailable(kind, version, newest, position, "there is no way back")
                    kind, version = back

    def show_all(
        self,
        events: Sequence[Event],
        versions: Versions = CURRENT,
        kinds: frozenset[str] = frozenset(),
        *,
        refuses: bool = True,
    ) -> Sequence[Event]:
        """Return the events as they are shown; if `kinds` are given, only those whose kind of today is among them.

        Args:
            events: As the log has them, of kinds that `spellings` of those wanted gives.
            versions: What the reader understands.
            kinds: The kinds that it asked for.
            refuses: False shows what the reader's versions cannot say as opaque instead.

        Raises:
            VersionUnavailable: an event cannot be shown in a version that the reader declares; names it.
        """
        if kinds and self.codec.registry.spellings(kinds) != kinds:
            events = [event for event in events if self._wanted(event, kinds)]
        if not self.are_current(events, versions):
            return [self.show(each, versions, refuses=refuses) for each in events]
        payloads = [event.payload for event in events]
        return events if _are_json(payloads) else [self._sound(event) for event in events]

    def are_current(self, events: Sequence[Event], versions: Versions = CURRENT) -> bool:
        """Tell whether all of the events can be shown as they are, by their kinds and versions alone."""
        if versions.stored:
            return True
        return {(event.category, event.kind, event.version) for event in events} <= self._needing_nothing(versions)

    def show(self, event: Event, versions: Versions = CURRENT, *, refuses: bool = True) -> Event:
        """Return the event as it is shown; see `show_all`.

        Raises:
            VersionUnavailable: it cannot be shown in a version that the reader declares.
        """
        if versions.stored or (event.category, event.kind, event.version) in self._needing_nothing(versions):
            return self._sound(event)
        try:
            newest = dict(versions.newest)
            known = self.codec.registry.find(event.category, event.kind, event.version) is not None
            if known and self._declared(event.kind, newest) and not self.codec.gave_up(event):
                return self._show_declared(event, newest)
            return self._show_current(event)
        except VersionUnavailable as error:
            if refuses:
                raise
            return _opaque(event, error.detail)

    def _show_current(self, event: Event) -> Event:
        found = self.codec.read(event)
        if isinstance(found, Opaque):
            return _opaque(event, found.reason)
        spec, payload = found
        try:
            return _shown(event, spec.kind, spec.version, encode_json(payload))
        except Exception as error:  # what a step made of it may be nothing that can be written
            return _opaque(event, f"could not be written in version {spec.version}: {error!r}")

    def _show_declared(self, event: Event, newest: dict[str, int]) -> Event:
        """Show it in a version that its reader knows: as stored, migrated as far as it knows, or brought back."""
        category, kind, version = event.category, event.kind, event.version
        chain, registry = self.codec.upcasters, self.codec.registry
        try:
            steps = best = 0 if _understood(kind, version, newest) else -1
            steps, value = 0, _plain.decode(event.payload)
            spec = registry.find(category, kind, version)
            while spec is not None and chain is not None and registry.following(spec):
                kind, version, value = chain.upcast(category, kind, version, value, 1)
                steps += 1
                best = steps if _understood(kind, version, newest) else best
                spec = registry.find(category, kind, version)
            kind, version, value = event.kind, event.version, _plain.decode(event.payload)
            if best >= 0:
                if best and chain is not None:
                    kind, version, value = chain.upcast(category, kind, version, value, best)
                return self._fitting(event, kind, version, value)
        except (Exception, SystemExit) as error:  # a step of anybody's may raise anything
            read = self.codec.decode(event)
            return _opaque(event, read.reason if isinstance(read, Opaque) else f"could not be migrated: {error}")
        while not _understood(kind, version, newest):
            if chain is None or chain.before(category, kind, version) is None or (kind, version) in self._stuck:
                raise _unavailable(kind, version, newest, event.position, "there is no way back")
            try:
                kind, version, value = chain.downcast(category, kind, version, value)
            except (Exception, SystemExit) as error:  # as above
                if isinstance(error, UnitStuck):
                    self._stuck.add((kind, version))
                raise _unavailable(kind, version, newest, event.position, str(error)) from None
        try:
            return self._fitting(event, kind, version, value)
        except Exception as error:
            raise _unavailable(event.kind, event.version, newest, event.position, str(error)) from None

    def _fitting(self, event: Event, kind: str, version: int, value: Any) -> Event:
        """Return the event with that payload, which fits the schema of that version."""
        spec = self.codec.registry.find(event.category, kind, version)
        assert spec is not None, "steps lead from one registered version to another"
        return _shown(event, kind, version, encode_json(typed(value, spec.payload)))

    def _sound(self, event: Event) -> Event:
        """Return the event; if its payload is no JSON, with the bytes in a string, so that nothing around it breaks."""
        payload = bytes(event.payload)
        try:
            _raw.decode(payload)
            if not payload.isascii():
                payload.decode()
        except (ValueError, RecursionError) as error:
            reason = f"is not JSON: {error}"
            self.codec.told(Opaque(event.kind, event.version, reason, payload, "not_json"))
            return _opaque(event, reason)
        return event

    def _needing_nothing(self, versions: Versions) -> frozenset[Key]:
        found = self._as_they_are.get(versions)
        if found is None:
            registry, newest = self.codec.registry, dict(versions.newest)
            if len(self._as_they_are) >= READERS_MAX:
                self._as_they_are.clear()
            found = self._as_they_are[versions] = frozenset(
                spec.key
                for spec in registry
                if registry.find_current(*spec.key) is spec
                and (_understood(spec.kind, spec.version, newest) or not self._declared(spec.kind, newest))
            )
        return found

    def _declared(self, kind: str, newest: dict[str, int]) -> bool:
        """Tell whether the reader declares a version of the kind, under any name that it ever had."""
        return bool(newest) and not newest.keys().isdisjoint(self.codec.registry.spellings(frozenset({kind})))

    def _wanted(self, event: Event, kinds: frozenset[str]) -> bool:
        today = self.codec.registry.of_today(kinds)
        if (event.category, event.kind, event.version) in self._needing_nothing(CURRENT):
            return event.kind in today
        found = self.codec.read(event)
        return isinstance(found, Opaque) or found[0].kind in today


def _understood(kind: str, version: int, newest: dict[str, int]) -> bool:
    return version <= newest.get(kind, 0)


def _unavailable(kind: str, version: int, newest: dict[str, int], position: int, why: str) -> VersionUnavailable:
    wanted = newest.get(kind)
    shown = "an older kind" if wanted is None else f"version {wanted}"
    return VersionUnavailable(
        f"The {kind} at position {position} has version {version} and cannot be shown as {shown}: {why[:300]}. Read it "
        "in its current version, or as `stored`.",
        kind=kind,
        version=wanted,
        position=position,
    )


def _are_json(payloads: list[msgspec.Raw]) -> bool:
    """Tell whether each payload is JSON, in one look at all of them."""
    joined = b"[" + b",".join(payloads) + b"]"
    try:
        return _raws.decode(joined) == payloads and (joined.isascii() or bool(joined.decode()))
    except (ValueError, RecursionError):
        return False


def _opaque(event: Event, reason: str) -> Event:
    payload = event.payload
    if not _are_json([payload]):
        reason = f"{reason} (the payload shows the stored bytes in base64)"
        payload = msgspec.Raw(encode_json(base64.b64encode(payload).decode()))
    return msgspec.structs.replace(event, payload=payload, opaque=reason)


def _shown(event: Event, kind: str, version: int, payload: bytes) -> Event:
    if (kind, version) == (event.kind, event.version):
        return event
    stored = Stored(event.kind, event.version)
    return msgspec.structs.replace(event, kind=kind, version=version, payload=msgspec.Raw(payload), stored=stored)
