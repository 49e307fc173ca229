"""OpenHands V1 in one file: events in an array, a page of a server's answer, one on each line, or an evaluation's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from chronicled.migrations.openhands.v1.course import is_event
from chronicled.migrations.openhands.v1.reading import mapping
from chronicled.storage.imports.json_array import Item
from chronicled.storage.imports.output_lines import is_output, output_lines
from chronicled.storage.imports.source import Record, Source
from chronicled.storage.imports.trajectory import Trajectory, events_in, open_file

__all__ = ["agent_sdk_files", "keyed_by_id"]

ASKED_MAX: Final = 32
"""How many of the first items are looked at: it is V1 if one of them is an event of it."""
LINES_MAX: Final = 8
"""How many lines of an evaluation are looked at: the first instances may have no history."""
ID_CHARACTERS_MAX: Final = 200


class _Head(msgspec.Struct, gc=False):
    id: str


_head: Final = msgspec.json.Decoder(_Head).decode


def keyed_by_id(items: Iterable[Item], place: str) -> Iterator[Record]:
    """Yield records, known by their ids, which is what other events call them; the second of one id by its number too.

    What is remembered is an id for each event.
    """
    seen: set[str] = set()
    for number, item in enumerate(items):
        key = item.key or _id(item) or f"@{number}"
        if key in seen:
            key = f"{number}-{key}"
        seen.add(key)
        yield Record(key, item.data, place, problem=item.problem)


def agent_sdk_files(path: Path) -> Iterator[Source]:
    """Yield the sources in a file of OpenHands V1; nothing where its beginning is no such file's.

    Raises:
        ImportRefused: the file cannot be opened.
    """
    if is_output(path):
        told = (_tells(map(_item, source.records(1))) for source in islice(output_lines(path), LINES_MAX))
        if next((each for each in told if each is not None), False):
            yield from output_lines(path, keyed_by_id)
        return
    with open_file(path) as stream:
        found = _tells(events_in(stream))
    if found:
        yield Trajectory(path, keys=keyed_by_id)


def _item(record: Record) -> Item:
    return Item(record.data, record.problem)


def _tells(items: Iterable[Item]) -> bool | None:
    """Tell whether the first event that is known is one of V1 or of V0; None where there is none."""
    for item in islice(items, ASKED_MAX):
        if item.problem is not None or item.key:
            continue
        try:
            value: Any = msgspec.json.decode(item.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        fields = mapping(value)
        if isinstance(fields.get("action"), str) or isinstance(fields.get("observation"), str):
            return False
        if is_event(fields):
            return True
    return None


def _id(item: Item) -> str:
    if item.problem is not None:
        return ""
    try:
        id = _head(item.data).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return id if id.isascii() and id.isprintable() and len(id) <= ID_CHARACTERS_MAX else ""
