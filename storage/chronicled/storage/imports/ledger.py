"""What the log already holds of an import, and whether its source is still what was imported."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from chronicled.events.blobs import BlobStore
from chronicled.events.codec import Codec
from chronicled.events.errors import BlobNotFound, ImportRefused, LogCorrupt, SourceChanged
from chronicled.events.kinds.lifecycle import EventsImported, SessionImported
from chronicled.events.limits import PAGE_EVENTS_MAX
from chronicled.events.store import EventStore, Filter
from chronicled.storage.imports.chunk import ChunkIndex, Progress, chain_behind
from chronicled.storage.imports.source import Record

__all__ = ["Ledger", "changed", "load_ledger", "read_index"]


class Ledger(msgspec.Struct):
    """The chunks of a session that are in the log, in order: nothing else says how far its import is."""

    format: str
    source: str
    """Where the source stood when the import began."""
    chunks: list[EventsImported]
    state: bytes | None
    """What the course remembered behind the last one."""

    @property
    def complete(self) -> bool:
        """Whether the source had no more when it was last read."""
        return bool(self.chunks) and self.chunks[-1].complete

    @property
    def progress(self) -> Progress:
        """How far the import is."""
        if not self.chunks:
            return Progress()
        last = self.chunks[-1]
        return Progress(last.first + last.records, len(self.chunks), last.chain)

    def check(self, records: Iterator[Record]) -> tuple[EventsImported, list[Record]] | None:
        """Take from the source what was imported of it; return the first chunk that differs, and what stands there now.

        Blocks: call it in a thread.
        """
        chain = ""
        for chunk in self.chunks:
            taken = list(islice(records, chunk.records))
            chain = chain_behind(chain, taken)
            if chain != chunk.chain:
                return chunk, taken
        return None


async def load_ledger(store: EventStore, blobs: BlobStore, codec: Codec, tenant: str, session: str) -> Ledger | None:
    """Return what the log holds of the session's import, None where there is no such session.

    Raises:
        ImportRefused: there is one of that name that is not an import.
        LogCorrupt: what an interrupted import left cannot be read.
    """
    last = await store.last(tenant, session)
    if last is None:
        return None
    where = Filter(tenant=tenant, session=session, kinds=frozenset({"session_imported", "events_imported"}))
    begun: SessionImported | None = None
    chunks: list[EventsImported] = []
    after, at_end = 0, False
    while not at_end:
        page = await store.read(after, PAGE_EVENTS_MAX, where)
        for event in page.events:
            payload = codec.decode(event)
            if isinstance(payload, SessionImported):
                begun = payload
            elif isinstance(payload, EventsImported):
                chunks.append(payload)
        after, at_end = page.next, page.at_end
    if begun is None:
        raise ImportRefused(
            f"There is a session {session!r} already that is not an import; import under another name (--session)."
        )
    state = None
    if chunks:
        state = bytes((await read_index(blobs, chunks[-1])).state)
    return Ledger(begun.format, begun.source, chunks, state)


async def read_index(blobs: BlobStore, chunk: EventsImported) -> ChunkIndex:
    """Return the index of a chunk.

    Raises:
        LogCorrupt: its blob is gone or broken.
    """
    try:
        data = b"".join([part async for part in blobs.read(chunk.blob, chunk.originals_bytes)])
        return msgspec.json.decode(data, type=ChunkIndex)
    except (BlobNotFound, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogCorrupt(f"The blob {chunk.blob} of an import cannot be read ({error}): restore it.") from None


async def changed(blobs: BlobStore, chunk: EventsImported, records: list[Record], name: str) -> SourceChanged:
    """Return the error that names the first record of the chunk that is not what was imported."""
    index = await read_index(blobs, chunk)
    wanted = [entry for entry in index.entries if entry.key]
    for number, entry in enumerate(wanted):
        if number >= len(records):
            return SourceChanged(f"{name} has changed since it was imported: record {entry.key!r} is gone.")
        record = records[number]
        if record.key != entry.key:
            return SourceChanged(
                f"{name} has changed since it was imported: record {record.key!r} stands where {entry.key!r} stood."
            )
        if record.data != await _original(blobs, chunk, entry.offset, entry.size):
            return SourceChanged(f"{name} has changed since it was imported: record {entry.key!r} is another.")
    return SourceChanged(f"{name} has changed since it was imported, from record {chunk.first} on.")


async def _original(blobs: BlobStore, chunk: EventsImported, offset: int, size: int) -> bytes:
    return b"".join([part async for part in blobs.read(chunk.blob, offset, size)])
