"""Of imported events, where they come from: the indexes of an import's chunks, a few of them in memory."""

from __future__ import annotations

import os
import sqlite3
from collections import OrderedDict
from typing import Final

import msgspec

from chronicled.events.kinds.lifecycle import EventsImported, SessionImported
from chronicled.migrations.formats.chronicle import Origin
from chronicled.storage.imports.chunk import ChunkIndex

__all__ = ["Origins", "read_piece"]

CHUNKS_MAX: Final = 8
INDEX_BYTES_MAX: Final = 64 << 20
NEXT: Final = (
    "SELECT event.sequence, event.payload FROM event JOIN label ON label.number = event.label WHERE event.session = ?"
    " AND event.sequence >= ? AND label.category = 3 AND label.kind = 'events_imported' ORDER BY event.sequence LIMIT 1"
)
BEGUN: Final = (
    "SELECT event.payload FROM event JOIN label ON label.number = event.label WHERE event.session = ?"
    " AND event.sequence < 8 AND label.category = 3 AND label.kind = 'session_imported' ORDER BY event.sequence LIMIT 1"
)

Chunk = tuple[int, int, dict[str, Origin]]
"""First and last sequence, and the origins by the events' ids."""


class Origins:
    """Finds an event's origin: the first chunk that ends behind the event names it.

    Args:
        connection: Reads the log.
        session: The session's number.
        blobs: The directory of the blobs.
    """

    def __init__(self, connection: sqlite3.Connection, session: int, blobs: str) -> None:
        self._connection = connection
        self._session = session
        self._blobs = blobs
        self._chunks: OrderedDict[int, Chunk] = OrderedDict()
        begun = connection.execute(BEGUN, (session,)).fetchone()
        self.format: str | None = None
        """None for a session that is no import."""
        if begun is not None and begun[0] is not None:
            try:
                self.format = msgspec.json.decode(begun[0], type=SessionImported).format
            except (msgspec.DecodeError, UnicodeDecodeError):
                # Of a version that is not known here: its events are exported as any others.
                self.format = None

    def find(self, sequence: int, id: str) -> Origin | None:
        """Return the origin of the event, None where it has none or its chunk's blob is gone."""
        if self.format is None:
            return None
        for first, last, origins in self._chunks.values():
            if first <= sequence <= last:
                return origins.get(id)
        first, last, origins = self._load(sequence)
        return origins.get(id) if first <= sequence <= last else None

    def _load(self, sequence: int) -> Chunk:
        row = self._connection.execute(NEXT, (self._session, sequence)).fetchone()
        if row is None:
            return sequence, sequence, {}
        last: int = row[0]
        try:
            chunk = msgspec.json.decode(row[1] or b"", type=EventsImported)
            index = read_piece(self._blobs, chunk.blob, chunk.originals_bytes, INDEX_BYTES_MAX)
            entries = msgspec.json.decode(index, type=ChunkIndex).entries
        except (msgspec.DecodeError, UnicodeDecodeError, OSError):
            return self._keep((sequence, last, {}))
        origins = {
            id: Origin(
                self.format or "",
                entry.key,
                entry.shape,
                entry.time,
                entry.time_utc,
                tuple(entry.lost),
                chunk.blob,
                entry.offset,
                entry.size,
            )
            for entry in entries
            for id in entry.events
        }
        return self._keep((last - chunk.events, last, origins))

    def _keep(self, chunk: Chunk) -> Chunk:
        self._chunks[chunk[1]] = chunk
        if len(self._chunks) > CHUNKS_MAX:
            self._chunks.popitem(last=False)
        return chunk


def read_piece(blobs: str, digest: str, offset: int, size: int) -> bytes:
    """Return up to `size` bytes of a blob from `offset`.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    with open(os.path.join(blobs, digest[:2], digest), "rb") as stream:
        stream.seek(offset)
        return stream.read(size)
