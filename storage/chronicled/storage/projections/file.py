"""The database file of the projections: never in a commit's path, deleted and made again whenever it is in doubt."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from chronicled.storage.connection import JobConnection
from chronicled.storage.projections.projection import Changes, Checkpoint, Projection

__all__ = ["ProjectionFile", "is_damage", "is_full"]

FORMAT: Final = 1
"""Of the file; another one is thrown away."""
PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = NORMAL",  # a power cut may lose the newest rows, never their order: the log has them all
    "cache_size = -4096",
    "temp_store = MEMORY",
    "mmap_size = 0",
    "trusted_schema = OFF",
)
CHECKPOINT: Final = (
    "CREATE TABLE IF NOT EXISTS checkpoint (name TEXT PRIMARY KEY, version TEXT NOT NULL, position INTEGER NOT NULL,"
    " incarnation TEXT NOT NULL, leaf TEXT NOT NULL) STRICT"
)


class ProjectionFile:
    """One connection to the file; each call is one job in its thread."""

    def __init__(self, connection: JobConnection, path: Path | None) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    async def open(cls, path: Path | None) -> ProjectionFile:
        """Open the file, made anew if it is missing, damaged or of another format; None keeps all in memory.

        On a full disk all is kept in memory too: the next start finds the file as it was, or makes it again.

        Raises:
            sqlite3.OperationalError: the directory cannot be written.
        """
        try:
            return cls(await JobConnection.open(lambda: _connect(path)), path)
        except sqlite3.DatabaseError as error:
            if path is not None and is_full(error):
                return await cls.open(None)
            if path is None or not is_damage(error):
                raise
        _remove(path)
        return cls(await JobConnection.open(lambda: _connect(path)), path)

    async def start_anew(self) -> ProjectionFile:
        """Throw the file away and return an empty one."""
        await self.close()
        if self._path is not None:
            _remove(self._path)
        return await ProjectionFile.open(self._path)

    async def leave(self) -> ProjectionFile:
        """Leave the file as it is, and return one in memory."""
        await self.close()
        return await ProjectionFile.open(None)

    async def checkpoint(self, projection: Projection) -> Checkpoint | None:
        """Return how far the projection's rows go, None for not at all; its tables are there afterwards."""
        return await self._connection.run(_checkpoint, projection)

    async def clear(self, projection: Projection) -> None:
        """Throw the projection's rows and checkpoint away."""
        await self._connection.run(_clear, projection)

    async def save(self, changes: list[Changes], checkpoints: list[Checkpoint]) -> None:
        """Write all of it in one transaction.

        Raises:
            sqlite3.Error: it could not; nothing of it was written.
        """
        await self._connection.run(_save, changes, checkpoints)

    async def run(self, job: Any, *arguments: Any) -> Any:
        """Run a reading job in the connection's thread."""
        return await self._connection.run(job, *arguments)

    async def close(self) -> None:
        """Close the connection; SQLite folds its write-ahead log into the file."""
        with suppress(sqlite3.Error, ValueError):
            await self._connection.close()


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether the error says that the file itself is bad, and not the disk or the moment."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return False
    # An SQL error against tables of our own making means that the file holds others than those.
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA}


def is_full(error: sqlite3.Error) -> bool:
    """Tell whether the error says that there is no room."""
    return getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}


def _connect(path: Path | None) -> sqlite3.Connection:
    connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=5.0, check_same_thread=False)
    try:
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        (format,) = connection.execute("PRAGMA user_version").fetchone()
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if format != FORMAT and tables:
            error = sqlite3.DatabaseError(f"projections of format {format}")
            error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
            raise error
        if format != FORMAT or not tables:
            # A file that is as it should be is not written to: the disk may be full.
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute(CHECKPOINT)
        if path is not None:
            os.chmod(path, 0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")


def _checkpoint(connection: sqlite3.Connection, projection: Projection) -> Checkpoint | None:
    for statement in projection.schema:
        connection.execute(statement)
    row = connection.execute(
        "SELECT name, version, position, incarnation, leaf FROM checkpoint WHERE name = ?", (projection.name,)
    ).fetchone()
    return None if row is None else Checkpoint(*row)


def _clear(connection: sqlite3.Connection, projection: Projection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in projection.tables:
            connection.execute(f"DROP TABLE IF EXISTS {table}")
        for statement in projection.schema:
            connection.execute(statement)
        connection.execute("DELETE FROM checkpoint WHERE name = ?", (projection.name,))
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _save(connection: sqlite3.Connection, changes: list[Changes], checkpoints: list[Checkpoint]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for each in changes:
            for sql, rows in each.statements:
                connection.executemany(sql, rows)
        connection.executemany(
            "INSERT OR REPLACE INTO checkpoint (name, version, position, incarnation, leaf) VALUES (?, ?, ?, ?, ?)",
            [(each.name, each.version, each.position, each.incarnation, each.leaf) for each in checkpoints],
        )
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
