"""One page of OpenHands V0: an array of 25 events, stored a second time since 0.32.0 (`event_cache/0-25.json`)."""

from __future__ import annotations

import io
from typing import Any, Final

import msgspec

from chronicled.migrations.openhands.v0.envelope import is_object
from chronicled.storage.imports.json_array import array_items
from chronicled.storage.imports.originals import decode
from chronicled.storage.imports.source import MISSING

__all__ = ["Page", "read_page"]


_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_values: Final = msgspec.json.Decoder(list[Any]).decode


class Page(msgspec.Struct):
    """What a page holds, by the ids in the events: the order in the page may be wrong (0.32.0)."""

    place: str
    """Its name, relative to the conversation's folder."""
    events: dict[int, tuple[bytes, Any]]
    """Bytes, and the value or `MISSING`."""
    strays: list[tuple[int, bytes, str | None]] = []
    """What has no id, an id that the page has already or does not claim, or is damaged: place, bytes, problem."""


def read_page(place: str, start: int, end: int, data: bytes) -> Page:
    """Return the page at that place, which claims ids from `start` up to `end`. Total: what is torn is a stray."""
    page = Page(place, {})
    items: list[tuple[bytes, Any, str | None]]
    try:
        # Both at once for the whole page: a third of the time of one by one.
        items = [(bytes(raw), value, None) for raw, value in zip(_raws(data), _values(data), strict=True)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        items = [(item.data, MISSING, item.problem) for item in array_items(io.BytesIO(data))]
    for index, (item, value, problem) in enumerate(items):
        number = None if problem is not None else _id_of(item, value, start + index)
        if number is None or number in page.events or not start <= number < end:
            page.strays.append((index, item, problem))
        else:
            page.events[number] = (item, value)
    return page


def _id_of(data: bytes, value: Any, expected: int) -> int | None:
    found = decode(data)[0] if value is MISSING else value
    if not is_object(found):
        return None
    id = found.get("id")
    # A mask may have taken the place of the id: then its place in the page tells it.
    return id if type(id) is int else expected
