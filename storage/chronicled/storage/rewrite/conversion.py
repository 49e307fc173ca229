"""What becomes of a stored event when its log is written anew: its payload's current version, or its very bytes."""

from __future__ import annotations

import uuid
from typing import NamedTuple

import msgspec

from chronicled.events.clock import format_time
from chronicled.events.codec import Codec, Opaque, encode_json
from chronicled.events.envelope import CATEGORIES, Category, Event
from chronicled.events.errors import InvalidPayload
from chronicled.events.ids import id_text
from chronicled.migrations.chain import Chain
from chronicled.storage.record import Label

__all__ = ["Conversion", "Converted"]


class Converted(NamedTuple):
    """One event of the new log."""

    id: bytes
    category: Category
    kind: str
    version: int
    payload: bytes | None
    """None for one that was erased: it stays so."""
    further: bool = False
    """It was part of the event before it."""


class Conversion:
    """Converts events one by one. Pure: the same event always becomes the same.

    Args:
        codec: Reads payloads as of today.
        chain: Says which old versions become several events.
    """

    def __init__(self, codec: Codec, chain: Chain) -> None:
        self._codec = codec
        self._chain = chain
        self._as_they_are: dict[tuple[Category, str, int], bool] = {}

    def converted(self, id: bytes, label: Label, payload: bytes | None) -> list[Converted]:
        """Return what becomes of the event; what cannot be read here, or was erased, stays as it is.

        Raises:
            InvalidPayload: an upcaster says that the event becomes several, and one of those is not right.
        """
        category = CATEGORIES[label.category - 1]
        key = (category, label.kind, label.version)
        as_it_is = self._as_they_are.get(key)
        if as_it_is is None:
            as_it_is = self._as_they_are[key] = self._stays(*key)
        if as_it_is or payload is None:
            return [Converted(id, *key, payload)]
        found = self._codec.read(_event(id, label, category, payload))
        if isinstance(found, Opaque):
            return [Converted(id, *key, payload)]
        spec, value = found
        try:
            main = Converted(id, category, spec.kind, spec.version, encode_json(value))
        except (ValueError, TypeError, RecursionError):  # what a step made of it cannot be written
            return [Converted(id, *key, payload)]
        return [main, *self._further(id, key, payload)]

    def _stays(self, category: Category, kind: str, version: int) -> bool:
        """Tell whether events of that version are current, or cannot be read at all."""
        spec = self._codec.registry.find(category, kind, version)
        return spec is None or self._codec.registry.find_current(category, kind, version) is spec

    def _further(self, id: bytes, key: tuple[Category, str, int], payload: bytes) -> list[Converted]:
        found: list[Converted] = []
        try:
            events = self._chain.further(*key, payload)
        except (Exception, SystemExit) as error:
            raise InvalidPayload(f"What else {key[1]} {key[2]} becomes cannot be told: {error!r}.") from error
        for number, each in enumerate(events):
            if "." in key[1] and each.kind.partition(".")[0] != key[1].partition(".")[0]:
                raise InvalidPayload(f"{key[1]} {key[2]} would become a {each.kind} too, which is not its owner's.")
            spec = self._codec.registry.current(each.category, each.kind)
            if spec.runnable or spec.terminal:
                raise InvalidPayload(
                    f"{key[1]} {key[2]} would become a {spec.kind} too: nothing can be added that runs or ends."
                )
            try:
                value = msgspec.convert(each.payload, spec.payload, str_keys=True)
            except msgspec.ValidationError as error:
                raise InvalidPayload(f"{key[1]} {key[2]} would become a {spec.kind} that is none: {error}.") from None
            own = uuid.uuid5(uuid.UUID(bytes=id), str(number)).bytes
            found.append(Converted(own, each.category, spec.kind, spec.version, encode_json(value), further=True))
        return found


def _event(id: bytes, label: Label, category: Category, payload: bytes) -> Event:
    # Only what a codec looks at; the rest is not known here and not asked for.
    return Event(
        0, "", "", 0, id_text(id), label.kind, label.version, category, label.lane, label.source, label.actor,
        format_time(0), msgspec.Raw(payload), "",
    )  # fmt: skip
