"""The writer's side of the log in SQLite: one transaction a batch, checkpoints in between."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from chronicled.events.errors import LogCorrupt, StorageFull, StoreFailed
from chronicled.storage.connection import UNIQUE, JobConnection, failure
from chronicled.storage.lookup import look_up
from chronicled.storage.medium import Batch, Collision, Found, LogState, Wanted
from chronicled.storage.record import LabelKey, StoredEvent
from chronicled.storage.reserve import Reserve
from chronicled.storage.segments import count_segment, segments_counted, segments_whole
from chronicled.storage.tree import Frontier

__all__ = ["COLUMNS", "SqliteMedium", "load_log"]

COLUMNS: Final = ", ".join(StoredEvent._fields)
_ROW: Final = f"({', '.join('?' * len(StoredEvent._fields))})"
# Rows of one statement, largest first. A statement runs without the interpreter's lock, so that the loop goes on beside
# it, but at its end it has to win the lock back: the fewer, the better.
SIZES: Final = tuple(1 << power for power in reversed(range(10)))
INSERTS: Final = {size: f"INSERT INTO event ({COLUMNS}) VALUES {', '.join([_ROW] * size)}" for size in SIZES}
LABELS_LOADED: Final = 4096
WAL_PAGES_MAX: Final = 4000
"""Pages in the WAL after which it is copied into the database file (16 MiB)."""


class SqliteMedium:
    """The writing connection. All its calls are the writer's, one after another."""

    def __init__(self, connection: JobConnection, reserve: Reserve) -> None:
        self._connection = connection
        self._reserve = reserve
        self._wal_pages = 0.0
        """Pages in the WAL by estimate; what the last checkpoint really met corrects the next estimates."""
        self._estimate = 1.0
        self._checkpointing: asyncio.Task[None] | None = None
        self._counted: int | None = None
        """Segments that are counted, once that is known."""

    async def find(self, wanted: Wanted) -> Found:
        """Return what is known of the wanted."""
        return await self._connection.run(look_up, wanted)

    async def write(self, batch: Batch) -> None:
        """Commit the batch; see `Medium.write`."""
        if self._checkpointing is not None:
            await self._checkpointing
            self._checkpointing = None
        await self._connection.run(self._write, batch)
        if self._wal_pages >= WAL_PAGES_MAX:
            # Runs in the connection's thread while the batch is acked and the next one judged; that one waits for it.
            self._checkpointing = asyncio.create_task(self._connection.run(self._checkpoint), name="log-checkpoint")

    async def release_reserve(self) -> bool:
        """Give up a piece of the reserve."""
        return await asyncio.to_thread(self._reserve.release)

    async def refill_reserve(self) -> bool:
        """Take the whole reserve again."""
        return await asyncio.to_thread(self._reserve.refill)

    async def aclose(self, log: LogState, *, failed: bool) -> None:
        """Keep a last checkpoint of the tree, unless the log has failed; then close the connection."""
        try:
            if self._checkpointing is not None and not failed:
                await self._checkpointing
            if not failed and log.checkpoint < log.head:
                frontier = log.frontier
                batch = Batch(checkpoint=(frontier.size, frontier.dump(), frontier.root()))
                with contextlib.suppress(StorageFull):  # then the next start folds a few thousand leaves more
                    await self.write(batch)
        finally:
            await self._connection.close()

    def _write(self, connection: sqlite3.Connection, batch: Batch) -> None:
        counted = self._counted
        try:
            if batch.is_bare and len(batch.rows) in INSERTS:
                # A single statement is a transaction of its own.
                connection.execute(INSERTS[len(batch.rows)], list(chain.from_iterable(batch.rows)))
                self._count(batch)
                return
            connection.execute("BEGIN IMMEDIATE")
            if batch.tenants:
                connection.executemany("INSERT INTO tenant VALUES (?, ?)", batch.tenants)
            if batch.sessions:
                connection.executemany("INSERT INTO session VALUES (?, ?, ?)", batch.sessions)
            if batch.labels:
                connection.executemany("INSERT INTO label VALUES (?, ?, ?, ?, ?, ?, ?)", batch.labels)
            _insert(connection, batch.rows)
            if batch.blobs:
                connection.executemany("INSERT OR IGNORE INTO blob_reference VALUES (?, ?, ?)", batch.blobs)
            if batch.checkpoint is not None:
                connection.execute("INSERT INTO tree_checkpoint VALUES (?, ?, ?)", batch.checkpoint)
                counted = self._count_segments(connection, batch.checkpoint[0])
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise _refusal(connection, error) from None
        self._counted = counted
        self._count(batch)

    def _count_segments(self, connection: sqlite3.Connection, size: int) -> int:
        """Count the segments that are whole with a log of that size; return how many are counted then."""
        first = segments_counted(connection) if self._counted is None else self._counted
        last = max(first, segments_whole(size))
        for segment in range(first, last):
            count_segment(connection, segment)
        return last

    def _count(self, batch: Batch) -> None:
        # One page for each session's place in the index, the rows themselves, and a few that every commit touches.
        size = sum([len(row[-1]) for row in batch.rows]) + 250 * len(batch.rows)
        self._wal_pages += self._estimate * (6 + len({row[1] for row in batch.rows}) + size // 3500)

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        # Passive: never waits for readers. What it cannot copy for them now, the next one will.
        guessed, self._wal_pages = self._wal_pages, 0.0
        try:
            _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            # Without room for the copy, the WAL goes on holding what it holds; it is durable there.
            if not isinstance(failure(error), StorageFull):
                raise _refusal(connection, error) from None
            return
        if pages == copied and guessed >= WAL_PAGES_MAX:  # else a reader holds some back, and they count again
            self._estimate = min(2.0, max(0.25, self._estimate * pages / guessed))


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            connection.execute(INSERTS[size], list(chain.from_iterable(rows[start : start + size])))
            start += size


def _refusal(connection: sqlite3.Connection, error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    meaning: Exception = Collision(str(error)) if code in UNIQUE else failure(error)
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            return StoreFailed(f"The log's database failed: {error}; and could not roll back: {second}.")
    if isinstance(meaning, LogCorrupt):
        return StoreFailed(meaning.detail)
    return meaning


def load_log(connection: sqlite3.Connection) -> tuple[str, LogState]:
    """Return the incarnation and where the log stands, from the newest checkpoint of the tree and the leaves behind it.

    Raises:
        LogCorrupt: a checkpoint is damaged, or positions are missing behind it.
    """
    (incarnation,) = connection.execute("SELECT name FROM incarnation ORDER BY number DESC LIMIT 1").fetchone()
    newest = connection.execute("SELECT position, time FROM event ORDER BY position DESC LIMIT 1").fetchone()
    head, time = newest or (0, 0)
    size, nodes = connection.execute(
        "SELECT size, frontier FROM tree_checkpoint ORDER BY size DESC LIMIT 1"
    ).fetchone() or (0, b"")
    try:
        frontier = Frontier.load(size, nodes)
    except ValueError as error:
        raise LogCorrupt(f"The tree's checkpoint at position {size} is damaged: {error}.") from None
    for (leaf,) in connection.execute("SELECT leaf FROM event WHERE position > ? ORDER BY position", (size,)):
        frontier.append(leaf)
    if frontier.size != head:
        raise LogCorrupt(f"Behind position {size}, {head - size} events should be there; {frontier.size - size} are.")
    tenants = {name: number for number, name in connection.execute("SELECT number, name FROM tenant")}
    (session_number,) = connection.execute("SELECT coalesce(max(number), 0) FROM session").fetchone()
    newest_labels = connection.execute("SELECT * FROM label ORDER BY number DESC LIMIT ?", (LABELS_LOADED,)).fetchall()
    labels: dict[LabelKey, int] = {tuple(key): number for number, *key in newest_labels}
    label_number = newest_labels[0][0] if newest_labels else 0
    return incarnation, LogState(head, time, frontier, tenants, session_number, labels, label_number, size)
