"""Connections to the log's database: how they are opened, how a whole job is run on one, what its errors mean."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar

import aiosqlite

from chronicled.events.errors import ChronicledError, LogCorrupt, StorageFull, StoreFailed

__all__ = ["JobConnection", "failure", "open_reader", "open_writer"]

P = ParamSpec("P")
T = TypeVar("T")

FETCH_CHUNK: Final = 64
STOP_SECONDS_MAX: Final = 5.0
UNIQUE: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})

WRITER_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",  # the WAL is synced at each commit: what is acked is on the medium
    "wal_autocheckpoint = 0",  # checkpoints happen between batches, never inside a commit
    "journal_size_limit = -1",  # the WAL keeps its size: overwriting it is cheaper than growing it
    "cache_size = -16384",
    "temp_store = MEMORY",
    "mmap_size = 0",  # a failed read is an error and not a SIGBUS
    "trusted_schema = OFF",
)


class JobConnection(aiosqlite.Connection):
    """A connection whose thread runs a whole job at once: one hop for a batch or a page and not one per statement."""

    if TYPE_CHECKING:  # aiosqlite leaves it without types

        async def _execute(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T: ...

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> Self:
        """Start a connection's thread and let it call `connect`; raises what that raises."""
        connection = cls(connect, FETCH_CHUNK)
        try:
            await connection
        except BaseException:
            # The thread was told to stop, and answers to this loop when it does: let it, while there is a loop.
            await asyncio.shield(asyncio.to_thread(connection.wait_stopped))
            raise
        return connection

    def wait_stopped(self) -> None:
        """Block until the connection's thread, which was told to stop, has ended; a few seconds at most."""
        self._thread.join(STOP_SECONDS_MAX)

    async def run(self, job: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `job(connection, ...)` in the connection's thread and return what it returns.

        Cancellation: the job runs to its end all the same; only its result is dropped.
        """
        return await self._execute(job, self._conn, *args, **kwargs)


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the connection that writes and checkpoints: there is one, since two can corrupt a file before SQLite 3.51.3.

    Raises:
        StoreFailed: the file system cannot carry a write-ahead log.
        sqlite3.Error: the file cannot be opened.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
    try:
        for pragma in WRITER_PRAGMAS:
            answer = connection.execute(f"PRAGMA {pragma}").fetchone()
            if pragma.startswith("journal_mode") and answer != ("wal",):
                raise StoreFailed(
                    f"The file system under {path} cannot carry a write-ahead log: journal mode {answer}."
                )
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that can change nothing, not even by a checkpoint; beside a running daemon too.

    A log that was closed in order can be read from a read-only medium, such as a snapshot.

    Raises:
        sqlite3.Error: the file is missing or cannot be opened.
    """
    try:
        return _open_reader(path, "mode=ro")
    except sqlite3.OperationalError:
        # In a directory that nobody can write, SQLite has no place for the index of its write-ahead log; it needs none.
        wal = path.with_name(f"{path.name}-wal")
        if os.access(path.parent, os.W_OK) or not path.is_file() or (wal.exists() and wal.stat().st_size):
            raise
        return _open_reader(path, "mode=ro&immutable=1")


def _open_reader(path: Path, how: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
    )
    try:
        for pragma in ("query_only = ON", "mmap_size = 0", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # the first that looks into the file
    except UnicodeDecodeError:
        connection.close()
        # SQLite quotes what it stumbles over, and Python reads its words as text.
        raise sqlite3.DatabaseError("its schema holds what is no text") from None
    except BaseException:
        connection.close()
        raise
    return connection


def failure(error: sqlite3.Error) -> ChronicledError:
    """Return what an error of SQLite means to the log.

    Only a full disk is known to have written nothing that counts: a WAL frame that did not fit is no commit. Anything
    else may have reached the disk or not (a failed sync most of all), so the process must stop.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull("The disk is full; nothing was written.")
    if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return LogCorrupt(f"The log's database is damaged: {name}: {error}.")
    # The index of the write-ahead log could not grow, which is what a full disk looks like at a start.
    hint = " (is the disk full?)" if code == sqlite3.SQLITE_IOERR_SHMSIZE else ""
    return StoreFailed(f"The log's database failed: {name}: {error}{hint}.")
