"""The floor under the log: what SQLite and Python cost when nothing but the bare path is left. No product code.

Append: one task writes whatever has gathered, as begin, executemany, commit on one connection (WAL, `FULL`), a table
with two indexes and triggers, a future per append. Read: fetch all rows of a session and decode each payload.

    python -m benchmarks.floor_store
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import aiosqlite
import msgspec

__all__ = ["Body", "append_floor", "body", "fill", "lone_floor", "scan_floor"]

SCHEMA = """
CREATE TABLE event (
  position INTEGER PRIMARY KEY, session INTEGER NOT NULL, sequence INTEGER NOT NULL, id BLOB NOT NULL,
  kind TEXT NOT NULL, time INTEGER NOT NULL, payload BLOB NOT NULL, UNIQUE (session, sequence));
CREATE UNIQUE INDEX event_id ON event (id);
CREATE TRIGGER event_update BEFORE UPDATE ON event BEGIN SELECT raise(ABORT, 'append-only'); END;
CREATE TRIGGER event_delete BEFORE DELETE ON event BEGIN SELECT raise(ABORT, 'append-only'); END;
"""
INSERT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)"
Row = tuple[int, int, int, bytes, str, int, bytes]


class Body(msgspec.Struct, frozen=True):
    """A payload of the size and shape that a `run` action has."""

    timeout_seconds: float | None
    queue_seconds: float | None
    on_state_loss: str
    thought: str
    security_risk: str
    command: str | None
    argv: list[str] | None
    environment: dict[str, str]
    tty: bool
    quiet_seconds: float | None
    working_directory: str | None
    hidden: bool


def body(number: int) -> bytes:
    """Return the encoded payload of the `number`-th event, about 230 bytes."""
    command = f"pytest -q tests/unit/test_{number % 500}.py"
    return msgspec.json.encode(Body(120.0, None, "reject", "", "unknown", command, None, {}, False, None, None, False))


def open_database(path: Path) -> sqlite3.Connection:
    """Create the bare database."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=4000", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(SCHEMA)
    return connection


def new_id() -> bytes:
    """Return a time-ordered id."""
    return time.time_ns().to_bytes(8, "big") + os.urandom(8)


class BareWriter:
    """Group commit with nothing around it."""

    def __init__(self, database: aiosqlite.Connection) -> None:
        self.database = database
        self.waiting: list[tuple[int, bytes, asyncio.Future[int]]] = []
        self.wake = asyncio.Event()
        self.position = 0
        self.sequences: dict[int, int] = {}

    async def append(self, session: int, payload: bytes) -> int:
        """Return the position once the event is on the medium."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append((session, payload, future))
        self.wake.set()
        return await future

    async def run(self) -> None:
        """Commit whatever gathered, for ever."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.waiting:
                batch, self.waiting = self.waiting[:512], self.waiting[512:]
                rows: list[Row] = []
                now = time.time_ns() // 1000
                for session, payload, _ in batch:
                    self.position += 1
                    sequence = self.sequences[session] = self.sequences.get(session, -1) + 1
                    rows.append((self.position, session, sequence, new_id(), "run", now, payload))
                await self.database.execute("BEGIN IMMEDIATE")
                await self.database.executemany(INSERT, rows)
                await self.database.execute("COMMIT")
                for row, (_, _, future) in zip(rows, batch, strict=True):
                    future.set_result(row[0])


async def appends(path: Path, count: int, in_flight: int) -> list[float]:
    """Append `count` events from `in_flight` tasks; return the wall time, then each append's latency."""
    open_database(path).close()
    async with aiosqlite.connect(path, isolation_level=None) as database:
        await database.execute("PRAGMA synchronous=FULL")
        await database.execute("PRAGMA wal_autocheckpoint=4000")
        writer = BareWriter(database)
        running = asyncio.create_task(writer.run())
        latencies: list[float] = []

        async def client(session: int) -> None:
            for number in range(count // in_flight):
                begin = time.perf_counter()
                await writer.append(session, body(number))
                latencies.append(time.perf_counter() - begin)

        begin = time.perf_counter()
        await asyncio.gather(*(client(session) for session in range(in_flight)))
        wall = time.perf_counter() - begin
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return [wall, *latencies]


def append_floor(count: int = 40_000, in_flight: int = 256) -> float:
    """Return durable appends per second."""
    with tempfile.TemporaryDirectory() as directory:
        wall = asyncio.run(appends(Path(directory) / "floor.sqlite", count, in_flight))[0]
    return count // in_flight * in_flight / wall


def lone_floor(count: int = 1_000) -> float:
    """Return the median latency in seconds of an append with no other in flight."""
    with tempfile.TemporaryDirectory() as directory:
        return statistics.median(asyncio.run(appends(Path(directory) / "floor.sqlite", count, 1))[1:])


def fill(path: Path, count: int) -> None:
    """Write one session of `count` events, every second row another session's."""
    connection = open_database(path)
    rows = [(n + 1, n % 2, n // 2, uuid.uuid4().bytes, "run", n, body(n)) for n in range(2 * count)]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(INSERT, rows)
    connection.execute("COMMIT")
    connection.close()


def scan_floor(path: Path) -> float:
    """Return events per second of reading session 1 of a filled database, each payload decoded."""
    decode = msgspec.json.Decoder(Body).decode
    connection = sqlite3.connect(path, isolation_level=None)
    begin = time.perf_counter()
    rows = connection.execute("SELECT * FROM event WHERE session = 1 ORDER BY sequence").fetchall()
    decoded = [decode(row[6]) for row in rows]
    wall = time.perf_counter() - begin
    connection.close()
    return len(decoded) / wall


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "scan.sqlite"
        fill(path, 100_000)
        scans = [scan_floor(path) for _ in range(3)]
    print(f"floor, durable appends, 256 in flight  {statistics.median(append_floor() for _ in range(3)):>10,.0f} /s")
    print(
        f"floor, lone append                     {statistics.median(lone_floor() for _ in range(3)) * 1e6:>10,.0f} us"
    )
    print(f"floor, 100k-event session, decoded     {statistics.median(scans):>10,.0f} /s")


if __name__ == "__main__":
    main()
