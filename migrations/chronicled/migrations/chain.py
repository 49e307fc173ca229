"""Upcasters and downcasters, and the chain that they form: payloads change their version step by step, on read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from chronicled.events.envelope import Category
from chronicled.events.kind import KindSpec
from chronicled.events.parts import BLOBS
from chronicled.events.plain import typed
from chronicled.events.registry import Registry
from chronicled.migrations.fields import Fields, reader

__all__ = ["Chain", "Downcaster", "Further", "Upcaster", "unchanged"]

Key = tuple[Category, str, int]
Change = Callable[[dict[str, Any]], dict[str, Any]]


unchanged: Final = Fields()
"""The next version has more fields, or admits more, and defaults say what held before: the payload stays as it is. A
path of such steps alone costs nothing: old bytes are read as the current version at once."""


class Further(msgspec.Struct, frozen=True):
    """An event that a rewrite puts behind the one it comes from: of no runnable kind, and no terminal one."""

    category: Category
    kind: str
    payload: dict[str, Any]
    """As the kind's current version has it."""


class Upcaster(msgspec.Struct, frozen=True):
    """Brings payloads of one kind from `version` to `version + 1`, or to `becomes`.

    `upgrade` is pure and total over what `version` allowed: plain JSON values in and out, no I/O, no clock. It may
    change the value that it is given.
    """

    category: Category
    kind: str
    version: int
    upgrade: Change
    becomes: tuple[str, int] | None = None
    """Kind and version that it leads to, where that is not the next of the same kind; the `KindSpec` says so too."""
    when: Callable[[dict[str, Any]], bool] | None = None
    """Where payloads of one version have several shapes: whether this is one of those that this step is for. The first
    upcaster whose test holds is taken; the last one of a version has no test. Pure and total, changes nothing."""
    further: Callable[[dict[str, Any]], list[Further]] | None = None
    """Where one event of this version says what later ones say in several: those that come behind what `upgrade` makes
    of it. Asked only where positions are new, by a rewrite of the log; a reader gets what `upgrade` gives. Pure,
    changes nothing."""


class Downcaster(msgspec.Struct, frozen=True):
    """Brings payloads of a kind from `version + 1`, or from `above`, back to `version`, for readers that know no newer.

    `downgrade` is pure. It may change the value that it is given, and raises `ValueError` for what `version` cannot
    say: then that event is refused to such readers, never told wrongly.
    """

    category: Category
    kind: str
    version: int
    downgrade: Change
    above: tuple[str, int] | None = None
    """Kind and version that it begins with, where that is not the next of the same kind: the kind was renamed."""


class Chain:
    """All steps, by kind and version; implements the `UpcasterChain` protocol of the codec.

    Raises:
        ValueError: two steps would be taken for the same payload.
    """

    def __init__(self, upcasters: Iterable[Upcaster] = (), downcasters: Iterable[Downcaster] = ()) -> None:
        self._up: dict[Key, list[Upcaster]] = {}
        for step in upcasters:
            steps = self._up.setdefault((step.category, step.kind, step.version), [])
            if steps and steps[-1].when is None:
                raise ValueError(
                    f"{step.category} {step.kind}: two upcasters from version {step.version}, "
                    "and the first one is for every payload"
                )
            steps.append(step)
        self._multiplies = any(step.further for steps in self._up.values() for step in steps)
        self._down: dict[Key, Downcaster] = {}
        for back in downcasters:
            above = back.above or (back.kind, back.version + 1)
            if (back.category, *above) in self._down:
                raise ValueError(f"{back.category} {above[0]}: two downcasters from version {above[1]}")
            self._down[back.category, *above] = back

    def check(self, registry: Registry) -> None:
        """Check that every kind has a path from each of its versions to its current one, and no step leads nowhere.

        Raises:
            ValueError: a step is missing, superfluous, or leads elsewhere than the kinds say; the message names it.
        """
        needed: set[Key] = set()
        for spec in registry:
            following = registry.following(spec)
            if following:
                needed.add(spec.key)
                self._check_steps(spec, {(each.kind, each.version) for each in following})
        for category, kind, version in sorted(self._up.keys() - needed):
            raise ValueError(f"{category} {kind}: an upcaster from version {version}, which is no old version")
        for (category, above, version), back in sorted(self._down.items(), key=lambda item: item[0]):
            start, target = registry.find(category, above, version), registry.find(category, back.kind, back.version)
            if start is None or target is None or start not in registry.following(target):
                raise ValueError(f"{category} {above}: a downcaster from version {version} that leads to no former one")

    def _check_steps(self, spec: KindSpec, wanted: set[tuple[str, int]]) -> None:
        steps = self._up.get(spec.key, [])
        if steps and steps[-1].when is not None:
            raise ValueError(
                f"{spec.category} {spec.kind}: every upcaster from version {spec.version} has a test, and a payload "
                "may fit none; let the last one have none"
            )
        for step in steps:
            _check_parts(spec, step)
        found = {step.becomes or (step.kind, step.version + 1) for step in steps}
        for kind, version in sorted(wanted - found):
            raise ValueError(
                f"{spec.category} {spec.kind}: no upcaster from version {spec.version} to {kind} {version}"
                if kind != spec.kind
                else f"{spec.category} {spec.kind}: no upcaster from version {spec.version} to {version}"
            )
        for kind, version in sorted(found - wanted):
            raise ValueError(
                f"{spec.category} {spec.kind}: an upcaster from version {spec.version} leads to {kind} {version}, and "
                "`becomes` of that version does not say so"
            )

    def check_readers(self, registry: Registry) -> None:
        """Check that what reads old versions of its kinds can be made, in a registry that fits.

        Raises:
            ValueError: it cannot, e.g. because a step leaves a field that the next version does not have.
        """
        for category, kind, version in self._up:
            spec, current = registry.find(category, kind, version), registry.find_current(category, kind, version)
            if spec is not None and current is not None:
                try:
                    self.reader(spec, current)
                except Exception as error:
                    raise ValueError(f"{category} {kind}: version {version} could not be read: {error}") from error

    def reader(self, old: KindSpec, new: KindSpec) -> Callable[[msgspec.Raw], Any] | None:
        """Return what reads stored bytes of the version `old` as the current one, `new`; None: their shape decides.

        It raises as a decoder does, and whatever a step raises.
        """
        steps: list[Change] = []
        key = old.key
        while key != new.key:
            step = self._up[key][0]
            if step.when is not None:
                return None
            steps.append(step.upgrade)
            key = (key[0], *(step.becomes or (key[1], key[2] + 1)))
        if all(step == unchanged for step in steps):
            return msgspec.json.Decoder(new.payload).decode
        fields = [step for step in steps if isinstance(step, Fields)]
        if len(fields) == len(steps):
            return reader(old.payload, new.payload, fields)
        # Looking at text costs imports that a log without such steps need not pay for.
        from chronicled.migrations.inlining.reader import inlined

        return inlined(old.payload, new.payload, steps, _one_by_one(new.payload, steps))

    def upcast(
        self, category: Category, kind: str, version: int, payload: Any, steps: int | None = None
    ) -> tuple[str, int, Any]:
        """Return the payload after so many steps, or all, with the kind and version that it has then.

        Raises:
            LookupError: there is no step from that version.
            Whatever a step raises on a payload that its version did not allow.
        """
        known = self._up
        found = known.get((category, kind, version))
        if found is None and steps is None:
            raise LookupError(f"{category} {kind}: no upcaster from version {version}")
        while found is not None and steps != 0:
            step = found[0]
            if step.when is not None:
                step = next(each for each in found if each.when is None or each.when(payload))
            payload = step.upgrade(payload)
            if step.becomes is None:
                version += 1
            else:
                kind, version = step.becomes
            if steps is not None:
                steps -= 1
            found = known.get((category, kind, version))
        return kind, version, payload

    def further(self, category: Category, kind: str, version: int, payload: bytes) -> list[Further]:
        """Return the events that a rewrite puts behind the one of that version and stored payload; mostly none.

        Raises:
            Exception: whatever a step raises on a payload that its version did not allow.
        """
        if not self._multiplies:
            return []
        events: list[Further] = []
        value = msgspec.json.decode(payload)
        while found := self._up.get((category, kind, version)):
            step = next(each for each in found if each.when is None or each.when(value))
            if step.further is not None:
                events += step.further(value)
            value = step.upgrade(value)
            kind, version = step.becomes or (kind, version + 1)
        return events

    def before(self, category: Category, kind: str, version: int) -> tuple[str, int] | None:
        """Return the kind and version that a payload of that version can be brought back to; None: there is no way."""
        back = self._down.get((category, kind, version))
        return None if back is None else (back.kind, back.version)

    def downcast(self, category: Category, kind: str, version: int, payload: Any) -> tuple[str, int, Any]:
        """Return the payload one version back, with the kind and version that it has then.

        Raises:
            LookupError: there is no step back.
            Whatever the step raises for what the older version cannot say.
        """
        back = self._down.get((category, kind, version))
        if back is None:
            raise LookupError(f"{category} {kind}: no downcaster from version {version}")
        return back.kind, back.version, back.downgrade(payload)


def _one_by_one(payload: type[msgspec.Struct], steps: Iterable[Change]) -> Callable[[msgspec.Raw], Any]:
    plain, changes = msgspec.json.Decoder().decode, tuple(steps)

    def read(raw: msgspec.Raw) -> Any:
        value = plain(raw)
        for change in changes:
            value = change(value)
        return typed(value, payload)

    return read


def _check_parts(spec: KindSpec, step: Upcaster) -> None:
    if isinstance(step.upgrade, Fields) and BLOBS not in step.upgrade.changed:
        for name in sorted(step.upgrade.renamed.keys() & set(spec.parts)):
            raise ValueError(
                f"{spec.category} {spec.kind}: the upcaster from version {spec.version} renames {name!r}, whose whole "
                f"may be a blob: it renames it in `{BLOBS}` too"
            )
