"""The importer: brings one session of another system into the log, once, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

import anyio
import msgspec
from anyio import to_thread

from chronicled.events import faultpoint
from chronicled.events.blobs import BlobStore
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE, Draft
from chronicled.events.errors import ChronicledError, ImportRefused, SourceChanged
from chronicled.events.kinds.lifecycle import IMPORTED, SessionCreated, SessionImported
from chronicled.events.store import Append, EventStore
from chronicled.migrations.conversion import Conversion, Ids
from chronicled.storage.imports.chunk import ACTOR, SOURCE, Chunk, Entry, Progress, Weaver, as_utf8
from chronicled.storage.imports.ledger import Ledger, changed, load_ledger, read_index
from chronicled.storage.imports.source import Record, Source

__all__ = ["IMPORTER", "ImportOptions", "Importer", "Outcome"]

IMPORTER: Final = "1"
"""Version of what imports write; stands in `session_imported`."""
SESSION_KEY: Final = "\x00session"


class ImportOptions(msgspec.Struct, frozen=True):
    """What whoever imports may choose."""

    tenant: str = "default"
    timezone: str | None = None
    """IANA name of the zone in which times without one were written."""
    dry_run: bool = False


class Outcome(msgspec.Struct):
    """What one import did; lines of the summary."""

    session: str
    place: str
    format: str
    records: int = 0
    """Records of the source that were converted now."""
    events: int = 0
    """Events that were made of them."""
    opaque: int = 0
    lossy: int = 0
    """Records of which something found no place in the events."""
    earlier: int = 0
    """Records that had been imported before."""
    redacted: int = 0
    """Records in which a value was replaced that was not to be kept, earlier ones too."""
    shapes: dict[str, int] = {}
    kinds: dict[str, int] = {}


class Importer:
    """Writes sessions of other systems to a log that no daemon uses at the moment.

    Guarantees: a record and its events, original bytes and index are committed together or not at all; what was
    committed is not written again; a source that is not what was imported of it is refused. So an import that was
    interrupted, by whatever, is completed by running it again. One commit is written while the next one is converted.

    Args:
        store: The log.
        blobs: Its blobs.
        codec: Encodes payloads.
        to_utc: Reads a time of the source as UTC, or None.
        report: Is told of every record in order, those that were imported before too; None: nobody.
    """

    def __init__(
        self,
        store: EventStore,
        blobs: BlobStore,
        codec: Codec,
        to_utc: Callable[[str], str | None] | None = None,
        report: Callable[[str, Entry], None] | None = None,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._codec = codec
        self._to_utc = to_utc
        self._report = report

    async def run(self, source: Source, conversion: Conversion, session: str, options: ImportOptions) -> Outcome:
        """Import the source as a session of that name, or what has come to it since it was imported.

        Raises:
            ImportRefused: the session exists and is not an import of this format, or the source cannot be read.
            SourceChanged: the source is not what was imported of it; names the first record that differs.
            StorageFull, StoreFailed: as `EventStore.append` and `BlobStore.put`; what was committed stays, and running
                it again goes on behind it.

        Cancellation: what is being written is committed whole or not at all; running it again goes on behind it.
        """
        ledger = await load_ledger(self._store, self._blobs, self._codec, options.tenant, session)
        if ledger is not None and ledger.format != conversion.format:
            raise ImportRefused(f"Session {session!r} was imported from {ledger.format}, not {conversion.format}.")
        records = source.records()
        progress = Progress() if ledger is None else await self._behind(session, ledger, source, records)
        outcome = Outcome(session, as_utf8(source.place), conversion.format, earlier=progress.records)
        if ledger is not None and ledger.complete:
            following = await to_thread.run_sync(next, records, None)
            if following is None:
                return outcome
            records = chain((following,), records)
        course = conversion.course(options.tenant, session, None if ledger is None else ledger.state)
        weaver = Weaver(conversion.format, self._codec, course, options.tenant, session, self._to_utc)
        opening = () if ledger is not None else self._opening(source, conversion, session, options)
        pipeline = _Pipeline(self._store, self._blobs, weaver, records, progress, dry_run=options.dry_run)
        chunk: Chunk | None = await pipeline.prepare()
        while chunk is not None:
            written, chunk = chunk, await pipeline.append(chunk, opening)
            opening = ()
            self._note(session, written, outcome)
        return outcome

    async def _behind(self, session: str, ledger: Ledger, source: Source, records: Iterator[Record]) -> Progress:
        """Take from the records what was imported, report it, and return how far it is.

        Raises:
            SourceChanged: it is not the same any more.
        """
        differs = await to_thread.run_sync(ledger.check, records)
        if differs is not None:
            error = await changed(self._blobs, *differs, source.place)
            if ledger.source == as_utf8(source.place):
                raise error
            raise SourceChanged(
                f"{error.detail} Session {session!r} was imported from {ledger.source}: if this is another one, import "
                "it under another name (--session)."
            )
        if self._report is not None:
            for chunk in ledger.chunks:
                for entry in (await read_index(self._blobs, chunk)).entries:
                    self._report(session, entry)
        return ledger.progress

    def _opening(
        self, source: Source, conversion: Conversion, session: str, options: ImportOptions
    ) -> tuple[Draft, ...]:
        ids = Ids(options.tenant, session)
        payloads = {
            "session_created": SessionCreated(
                runtime=IMPORTED, labels={n: as_utf8(v) for n, v in source.labels.items()}
            ),
            "session_imported": SessionImported(
                format=conversion.format, source=as_utf8(source.place), importer=IMPORTER, timezone=options.timezone
            ),
        }
        return tuple(
            self._codec.draft(
                LIFECYCLE,
                kind,
                payload,
                tenant=options.tenant,
                session=session,
                id=ids.of(SESSION_KEY, part),
                source=SOURCE,
                actor=ACTOR,
            )
            for part, (kind, payload) in enumerate(payloads.items())
        )

    def _note(self, session: str, chunk: Chunk, outcome: Outcome) -> None:
        outcome.records += chunk.imported.records
        outcome.events += chunk.imported.events
        outcome.opaque += chunk.imported.opaque
        for entry in chunk.entries:
            outcome.lossy += bool(entry.lost)
            outcome.shapes[entry.shape] = outcome.shapes.get(entry.shape, 0) + 1
            for kind in entry.kinds:
                outcome.kinds[kind] = outcome.kinds.get(kind, 0) + 1
            if self._report is not None:
                self._report(session, entry)


class _Pipeline:
    """Two chunks on their way: the events of one are appended while the next is made and its blobs are stored."""

    def __init__(
        self,
        store: EventStore,
        blobs: BlobStore,
        weaver: Weaver,
        records: Iterator[Record],
        progress: Progress,
        *,
        dry_run: bool,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._weaver = weaver
        self._records = records
        self._progress = progress
        self._dry_run = dry_run

    async def prepare(self) -> Chunk:
        """Make the next chunk and store its blobs: its events may name them then."""
        chunk = await to_thread.run_sync(self._weaver.weave, self._records, self._progress)
        if not self._dry_run:
            faultpoint.reached("import_to_blob")
            for data in chunk.attached.values():
                await self._blobs.put(data)
            await self._blobs.put(chunk.blob)
        return chunk

    async def append(self, chunk: Chunk, opening: tuple[Draft, ...]) -> Chunk | None:
        """Append a chunk that is prepared, and prepare the next one meanwhile; None when there is no more."""
        errors: list[ChronicledError | OSError] = []
        following: Chunk | None = None

        async def write() -> None:
            try:
                await self.write(chunk, opening)
            except ChronicledError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            if not self._dry_run:
                tasks.start_soon(write)
            if not chunk.imported.complete:
                try:
                    following = await self.prepare()
                except (ChronicledError, OSError) as error:
                    errors.append(error)
        if errors:
            raise errors[0]
        return following

    async def write(self, chunk: Chunk, opening: tuple[Draft, ...]) -> None:
        """Append the chunk's events and the mark of how far the import is: one commit."""
        faultpoint.reached("import_to_append")
        await self._store.append(Append((*opening, *chunk.drafts), create=bool(opening)))
        faultpoint.reached("import_to_next")
