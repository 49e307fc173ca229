"""One page of OpenHands V0: an array of 25 events, stored a second time since 0.32.0 (`event_cache/0-25.json`)."""

from __future__ import annotations

import io
from typing import Final

import msgspec

from chronicled.storage.imports.json_array import array_items
from chronicled.storage.imports.originals import decode

__all__ = ["Page", "read_page"]


class _Head(msgspec.Struct, gc=False):
    id: int


_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_head: Final = msgspec.json.Decoder(_Head).decode


class Page(msgspec.Struct):
    """What a page holds, by the ids in the events: the order in the page may be wrong (0.32.0)."""

    name: str
    events: dict[int, bytes]
    strays: list[tuple[int, bytes, str | None]] = []
    """What has no id, an id that the page has already or does not claim, or is damaged: place, bytes, problem."""


def read_page(name: str, start: int, end: int, data: bytes) -> Page:
    """Return the page of that name, which claims ids from `start` up to `end`. Total: what is torn is a stray."""
    page = Page(name, {})
    try:
        items: list[tuple[bytes, str | None]] = [(bytes(raw), None) for raw in _raws(data)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        items = [(item.data, item.problem) for item in array_items(io.BytesIO(data))]
    for place, (item, problem) in enumerate(items):
        number = None if problem is not None else _id_of(item, start + place)
        if number is None or number in page.events or not start <= number < end:
            page.strays.append((place, item, problem))
        else:
            page.events[number] = item
    return page


def _id_of(data: bytes, expected: int) -> int | None:
    try:
        return _head(data).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value, _ = decode(data)
    # A mask may have taken the place of the id: then its place in the page tells it.
    return expected if isinstance(value, dict) else None
