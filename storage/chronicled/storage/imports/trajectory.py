"""A trajectory of OpenHands: a file with one JSON array of events, of pairs, or with an event on each line."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from chronicled.events.codec import encode_json
from chronicled.events.errors import ImportRefused
from chronicled.migrations.openhands.instance import INSTANCE_KEY
from chronicled.storage.imports.files import RECORD_BYTES_MAX
from chronicled.storage.imports.json_array import Item, array_items
from chronicled.storage.imports.source import Record

__all__ = ["Keys", "Trajectory", "events_in", "keyed", "open_file"]

Keys = Callable[[Iterable[Item], str], Iterator[Record]]
"""Makes records of items, in their order: under which key the source knows each."""
INSIDE: Final = ("trajectory", "events", "history", "items")
"""Where the web interface of OpenHands, its servers and evaluations put the array."""

NOTHING: Final = frozenset({b"null", b"false", b'""', b"[]", b"{}"})


class _Head(msgspec.Struct, gc=False):
    id: int


_head: Final = msgspec.json.Decoder(_Head).decode
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def keyed(items: Iterable[Item], place: str) -> Iterator[Record]:
    """Yield records, known by the events' ids as long as these rise, else by their number."""
    last = -1
    for number, item in enumerate(items):
        key = item.key or f"@{number}"
        if item.problem is None and not item.key:
            try:
                id = _head(item.data).id
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                id = -1
            if id > last:
                key, last = str(id), id
        yield Record(key, item.data, place, problem=item.problem)


class Trajectory:
    """A `Source`: the events of one file."""

    def __init__(self, path: Path, name: str | None = None, keys: Keys = keyed) -> None:
        self.name = path.stem if name is None else name
        self.place = str(path)
        self.labels: dict[str, str] = {}
        self._path = path
        self._keys = keys

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from number `start` on.

        Raises:
            ImportRefused: the file cannot be opened.
        """
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        with open_file(self._path) as stream:
            yield from self._keys(events_in(stream), self._path.name)


def events_in(stream: BinaryIO) -> Iterator[Item]:
    """Yield the events that stand in a file, from its beginning, one at a time where it is an array."""
    first = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    stream.seek(0)
    yield from _in_object(stream) if first == b"{" else array_items(stream)


def open_file(path: Path) -> BinaryIO:
    """Open a file that somebody named.

    Raises:
        ImportRefused: it cannot be opened, or is a pipe or a device: what is imported is read several times.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}.") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImportRefused(f"{path} cannot be read: it is no file.")
    return os.fdopen(descriptor, "rb")


def _in_object(stream: BinaryIO) -> Iterator[Item]:
    """Yield what is in an object that holds the array, in a single event, or in an event on each line."""
    data = stream.read(RECORD_BYTES_MAX + 1)
    if len(data) <= RECORD_BYTES_MAX:
        try:
            members = _members(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            members = {}
        for name in INSIDE:
            if name in members:
                try:
                    raws = _raws(members[name])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                beside = {other: raw for other, raw in members.items() if other != name and bytes(raw) not in NOTHING}
                if beside:
                    yield Item(encode_json(beside), key=INSTANCE_KEY)
                yield from (Item(bytes(raw)) for raw in raws)
                return
    stream.seek(0)
    while line := stream.readline(RECORD_BYTES_MAX + 1):
        if line.strip():
            long = len(line) > RECORD_BYTES_MAX
            yield Item(line.rstrip(b"\r\n"), f"a line of more than {RECORD_BYTES_MAX} bytes" if long else None)
