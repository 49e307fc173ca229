"""The event store in one SQLite file: the embedded default."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from chronicled.events.clock import Clock, SystemClock
from chronicled.events.envelope import Event
from chronicled.events.errors import StorageFull
from chronicled.events.ids import IdSource, Randomness, SystemIds, SystemRandomness, id_bytes
from chronicled.events.store import Filter, Page
from chronicled.storage.connection import JobConnection, failure, open_reader, open_writer
from chronicled.storage.lock import DirectoryLock
from chronicled.storage.log_store import LogStore
from chronicled.storage.medium import LogState
from chronicled.storage.reserve import RESERVE_BYTES, Reserve
from chronicled.storage.schema import BESIDE, Backup, Progress, apply_steps
from chronicled.storage.sqlite_medium import SqliteMedium, load_log
from chronicled.storage.sqlite_reader import SqliteReader, read_failure
from chronicled.storage.verification import verify_file
from chronicled.storage.writer import LogWriter

__all__ = ["LOG_NAME", "REWRITING_NAME", "REWRITING_SUFFIX", "SqliteStore", "is_being_rewritten", "migrate_file"]

P = ParamSpec("P")
T = TypeVar("T")

LOG_NAME: Final = "log.sqlite"
"""The file's name in a data directory."""
REWRITING_NAME: Final = "rewriting.json"
"""In a directory where a log is being written anew, which may be thrown away and begun again."""
REWRITING_SUFFIX: Final = ".rewriting"
"""What such a directory's name ends with until it is whole."""
RESERVE_NAME: Final = "log.reserve"


class SqliteStore(LogStore):
    """An event store in an SQLite file; see `EventStore`.

    Durability: each commit is synced (`synchronous = FULL`) before anybody is told of it. One connection writes and
    checkpoints, another reads; no third one in this process or any other may write.
    """

    def __init__(
        self,
        path: Path,
        writer: LogWriter,
        incarnation: str,
        medium: SqliteMedium,
        reading: JobConnection,
        lock: DirectoryLock | None,
    ) -> None:
        super().__init__(writer, incarnation)
        self.path = path
        self._medium = medium
        self._reading = reading
        self._reader = SqliteReader()
        self._lock = lock
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock | None = None,
        ids: IdSource | None = None,
        randomness: Randomness | None = None,
        lock: DirectoryLock | None = None,
        reserve_bytes: int = RESERVE_BYTES,
        backup: Backup = BESIDE,
        progress: Progress | None = None,
    ) -> SqliteStore:
        """Open the log at `path`, create it if there is none, and bring its schema to this version.

        Args:
            path: The database file; its directory must exist.
            clock: Where times come from.
            ids: Where the name of a new log's incarnation comes from.
            randomness: Where salts come from.
            lock: The held lock on the file's directory; None takes it here and releases it at `aclose`.
            reserve_bytes: Room kept on the disk for what must be written when it is full.
            backup: What becomes of the copy that is made before the schema changes.
            progress: Told, in another thread, how a migration of the schema goes.

        Raises:
            Refused: the schema must change, and there is no room for the copy.
            DataDirectoryBusy: another daemon has the directory.
            SchemaTooNew: a newer version wrote the log.
            LogCorrupt: the file is not a log of ours, or damaged where a start must read it.
            StoreFailed: it cannot be opened or written.
        """
        own = DirectoryLock(path.parent) if lock is None else None
        clock = clock or SystemClock()
        incarnation = (ids or SystemIds()).new()
        loaded: list[tuple[str, LogState]] = []

        reserve = Reserve(path.with_name(RESERVE_NAME), reserve_bytes)

        def connect() -> sqlite3.Connection:
            connection = _open_with_room(path, clock, incarnation, reserve, backup, progress)
            loaded.append(load_log(connection))
            return connection

        try:
            writing = await JobConnection.open(connect)
            try:
                reading = await JobConnection.open(lambda: open_reader(path))
            except BaseException:
                await writing.close()
                raise
        except BaseException as error:
            if own is not None:
                own.release()
            if isinstance(error, sqlite3.Error):
                raise read_failure(error) from None
            raise
        medium = SqliteMedium(writing, reserve)
        whole = await medium.refill_reserve()
        name, log = loaded[0]
        # Without room for the whole reserve the disk counts as full: what is left of it is not for new work.
        writer = LogWriter(medium, log, clock, randomness or SystemRandomness(), full=not whole)
        writer.start()
        return cls(path, writer, name, medium, reading, own)

    async def read(self, after: int, limit: int, where: Filter | None = None) -> Page:
        """Return one page; see `EventStore.read`.

        A page ends early after 4 MiB of payload or, under a filter by more than the session, 10,000 events looked at;
        stretches of the log in which nothing can be wanted, as the counts of segments tell, are not looked at.
        """
        limit = self._checked(after, limit)
        return await self._ask(self._reader.page, self.head, after, limit, where or Filter())

    async def find(self, tenant: str, id: str) -> Event | None:
        """Return the event of that id, or None."""
        return await self._ask(self._reader.by_id, tenant, id_bytes(id))

    async def request(self, tenant: str, id: str) -> bytes | None:
        """Return the digest of the request that wrote the event of that id, or None."""
        return await self._ask(self._reader.request, tenant, id_bytes(id))

    async def terminal(self, tenant: str, action: str) -> Event | None:
        """Return the terminal observation of the action of that id, or None."""
        return await self._ask(self._reader.terminal, tenant, id_bytes(action))

    async def last(self, tenant: str, session: str) -> Event | None:
        """Return the newest event of the session, or None when there is no such session."""
        return await self._ask(self._reader.last, self.head, tenant, session)

    async def names_blob(self, tenant: str, session: str, digest: str) -> bool:
        """Tell whether an event of the session names the blob."""
        return await self._ask(self._reader.names_blob, tenant, session, bytes.fromhex(digest))

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Sequence[str]:
        """Recompute everything up to the head; see `EventStore.verify`.

        Runs in a thread, which slows appends down; `verify_file` does the same from another process.

        Raises:
            LogCorrupt: the file cannot be read at all.

        Cancellation: the thread ends after the page that it is at.
        """
        self._writer.check()
        loop = asyncio.get_running_loop()
        over = threading.Event()

        def tell(done: int, total: int) -> None:
            if progress is not None:
                loop.call_soon_threadsafe(progress, done, total)

        try:
            report = await asyncio.to_thread(
                verify_file, self.path, tell, head=self.head, root=self.root, stop=over.is_set
            )
        finally:
            over.set()
        return report.problems

    async def aclose(self) -> None:
        """Commit what waits, then close. Later calls raise `StoreClosed`; a second `aclose` does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._writer.aclose()
        finally:
            try:
                await self._reading.close()
                await self._medium.aclose(self._writer.log, failed=self._writer.failed)
            finally:
                if self._lock is not None:
                    self._lock.release()

    async def _ask(self, job: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._writer.check()
        try:
            return await self._reading.run(job, *args, **kwargs)
        except sqlite3.Error as error:
            raise read_failure(error) from None


def is_being_rewritten(directory: Path) -> bool:
    """Tell whether the directory is one in which a log is being written anew, or was when that was ended.

    With its name a log is whole, though a crash may have left the mark in it.
    """
    marked = (directory / REWRITING_NAME).exists()
    return marked and (directory.resolve().name.endswith(REWRITING_SUFFIX) or not (directory / LOG_NAME).exists())


def migrate_file(path: Path, *, backup: Backup = BESIDE, progress: Progress | None = None) -> int:
    """Bring the existing log at `path` to the newest step, without a store; return the number of steps. Blocks.

    The caller holds the lock on the directory. Interrupted by a signal's exception, what was begun is rolled back, and
    the next call goes on.

    Raises:
        As `SqliteStore.open`, and KeyboardInterrupt.
    """
    try:
        with closing(open_writer(path)) as connection:
            clock = SystemClock()
            values: dict[str, str | int] = {"incarnation": SystemIds().new(), "time": clock.now_us()}
            taken = apply_steps(connection, path, clock.now_us(), values, backup=backup, progress=progress)
            _copy_wal(connection)
            return taken
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            # What `progress` raises inside of a check becomes this.
            raise KeyboardInterrupt from None
        raise failure(error) from None


def _open_with_room(
    path: Path, clock: Clock, incarnation: str, reserve: Reserve, backup: Backup, progress: Progress | None
) -> sqlite3.Connection:
    while True:
        try:
            return _open(path, clock, incarnation, backup, progress)
        except sqlite3.Error as error:
            # After a crash SQLite makes its index in shared memory anew; nothing was promised, so it may be repeated.
            full = error.sqlite_errorcode in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
            if not full or not reserve.release():
                raise


def _open(path: Path, clock: Clock, incarnation: str, backup: Backup, progress: Progress | None) -> sqlite3.Connection:
    if not path.exists():
        # Made here for its mode; SQLite gives the same mode to the files that it puts beside it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    connection = open_writer(path)
    try:
        time = clock.now_us()
        values: dict[str, str | int] = {"incarnation": incarnation, "time": time}
        apply_steps(connection, path, time, values, backup=backup, progress=progress)
        # What a crash left in the WAL may never have been synced: copied into the database file, it is.
        _copy_wal(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_wal(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        # Without room for the copy it stays where it is: the sync of the first commit covers the whole file.
        if not isinstance(failure(error), StorageFull):
            raise
