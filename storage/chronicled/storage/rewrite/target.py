"""The log that is being written: positions, leaves, the tree and its checkpoints, all made anew."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from chronicled.events import faultpoint
from chronicled.events.envelope import LIFECYCLE
from chronicled.events.ids import Randomness
from chronicled.storage.leaf import header, leaf_hash, pack_texts, payload_digest
from chronicled.storage.record import CATEGORY_NUMBERS, LabelKey, SessionState, StoredEvent
from chronicled.storage.rewrite.conversion import Converted
from chronicled.storage.rewrite.source import Row, Source
from chronicled.storage.schema import apply_steps
from chronicled.storage.segments import count_segment, segments_whole
from chronicled.storage.tree import Frontier

__all__ = ["Target"]

BATCH_ROWS: Final = 4096
"""Written in one transaction, with a checkpoint of the tree behind them."""
SESSIONS_MAX: Final = 16_384
LABELS_MAX: Final = 16_384
COLUMNS: Final = (*StoredEvent._fields, "erased_digest")
INSERT: Final = f"INSERT INTO event ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
STATE: Final = (
    "SELECT sequence, client_sequence, fence, closed, leaf FROM event WHERE session = ? ORDER BY sequence DESC LIMIT 1"
)
# Nobody reads it before it is whole, and after a crash it is begun again: it is synced once, at its end.
PRAGMAS: Final = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -16384", "temp_store = MEMORY")
SESSION: Final = (
    "SELECT session.number, tenant.number FROM tenant JOIN session ON session.tenant = tenant.number"
    " WHERE tenant.name = ? AND session.name = ?"
)


class Target:
    """Writes events in order; `finish` makes a log of them that a daemon can open.

    Sessions and tenants keep their numbers. Memory: a batch, and the states of some sessions.

    Args:
        path: The file, which does not exist yet.
        source: The log that is written anew.
        randomness: Where salts of further events come from.
    """

    def __init__(self, path: Path, source: Source, randomness: Randomness) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        self.connection = sqlite3.connect(path, isolation_level=None)
        self._path = path
        self._source = source
        self._randomness = randomness
        self._frontier = Frontier()
        self._rows: list[tuple[Any, ...]] = []
        self._labels: dict[LabelKey, int] = {}
        self._new_labels: list[tuple[Any, ...]] = []
        self._label_number = 0
        self._states: dict[int, tuple[SessionState, str, str]] = {}
        self._segments = 0
        for pragma in PRAGMAS:
            self.connection.execute(f"PRAGMA {pragma}").fetchone()

    @property
    def head(self) -> int:
        """Position of the last event."""
        return self._frontier.size

    def begin(self, incarnation: str, time: int) -> None:
        """Make the tables, with the former log's incarnations, tenants and sessions, and a new incarnation."""
        former = self._source.connection.execute("SELECT * FROM incarnation ORDER BY number").fetchall()
        _, name, _, created, _ = former[0]
        apply_steps(self.connection, self._path, time, {"incarnation": name, "time": created})
        self.connection.execute("BEGIN")
        newest = (former[-1][0] + 1, incarnation, 0, time, "rewritten")
        self.connection.executemany("INSERT INTO incarnation VALUES (?, ?, ?, ?, ?)", [*former[1:], newest])
        for table, marks in (("tenant", "?, ?"), ("session", "?, ?, ?")):
            rows = self._source.connection.execute(f"SELECT * FROM {table} ORDER BY number")
            self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        self.connection.execute("COMMIT")

    def first(self, tenant: str, session: str, row: Row, event: Converted) -> None:
        """Write an event of our own, in a session that is made if it is not there, whatever session the row names."""
        found = self.connection.execute(SESSION, (tenant, session)).fetchone()
        if found is None:
            self.connection.execute(
                "INSERT OR IGNORE INTO tenant VALUES ((SELECT coalesce(max(number), 0) + 1 FROM tenant), ?)", (tenant,)
            )
            self.connection.execute(
                "INSERT INTO session SELECT (SELECT coalesce(max(number), 0) + 1 FROM session), number, ?"
                " FROM tenant WHERE name = ?",
                (session, tenant),
            )
            found = self.connection.execute(SESSION, (tenant, session)).fetchone()
        number, tenant_number = found
        self._states[number] = (SessionState(number, tenant_number), tenant, session)
        label = (CATEGORY_NUMBERS[LIFECYCLE], event.kind, event.version, "main", "daemon", "daemon")
        self._write(row._replace(session=number, tenant=tenant_number), event, label)

    def add(self, row: Row, events: list[Converted]) -> None:
        """Write what becomes of the row."""
        _, _, _, lane, source, actor = self._source.label(row.label)
        for event in events:
            label = (CATEGORY_NUMBERS[event.category], event.kind, event.version, lane, source, actor)
            self._write(row, event, label)
        if len(self._rows) >= BATCH_ROWS:
            self._flush()
            faultpoint.reached("mid_rewrite")

    def refer(self) -> None:
        """Write which blobs the events name, behind the last event."""
        self._flush()
        connection, source = self.connection, self._source.connection
        # By the event's id: positions are others now.
        former = source.execute(
            "SELECT blob_reference.session, digest, tenant, id FROM blob_reference"
            " JOIN event ON event.position = blob_reference.position"
        )
        connection.execute("BEGIN")
        for session, digest, tenant, id in former:
            connection.execute(
                "INSERT INTO blob_reference SELECT ?, ?, position FROM event WHERE tenant = ? AND id = ?",
                (session, digest, tenant, id),
            )
        connection.execute("COMMIT")

    def finish(self) -> None:
        """Close the file as one that a daemon can open; sync it."""
        self._flush()
        self.connection.execute("PRAGMA journal_mode = WAL").fetchone()
        self.connection.close()
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file as it is. Idempotent."""
        self.connection.close()

    def _write(self, row: Row, event: Converted, label: LabelKey) -> None:
        known = self._states.get(row.session) or self._load(row.session)
        state, tenant, session = known
        position, sequence = self._frontier.size + 1, state.sequence + 1
        terminal, request, salt = bool(row.terminal), row.request, row.salt
        if event.further:
            terminal, request, salt = False, None, self._randomness.bytes(16)
        texts = pack_texts(tenant, session, label[1], *label[3:])
        head = header(
            position, sequence, row.time, label[2], label[0], terminal, event.id, row.cause, request, row.traceparent,
            state.leaf, texts,
        )  # fmt: skip
        erased = row.erased_digest if event.payload is None else None
        digest = erased if event.payload is None else payload_digest(salt or b"", event.payload)
        leaf = leaf_hash(head, digest or b"")
        self._frontier.append(leaf)
        state = state.after(position, label[0], label[1], label[4], leaf)
        self._states[row.session] = (state, tenant, session)
        self._rows.append((
            position, row.session, sequence, row.tenant, event.id, self._labels.get(label) or self._label(label),
            row.cause, terminal, row.time, request, row.traceparent, state.client_sequence, state.fence, state.closed,
            leaf, salt, event.payload, erased,
        ))  # fmt: skip

    def _load(self, session: int) -> tuple[SessionState, str, str]:
        tenant, name = self._source.session(session)
        (number,) = self.connection.execute("SELECT tenant FROM session WHERE number = ?", (session,)).fetchone()
        state = SessionState(session, number)
        found = self.connection.execute(STATE, (session,)).fetchone()
        if found is not None:
            sequence, client_sequence, fence, closed, leaf = found
            state = SessionState(session, number, sequence, client_sequence, fence, bool(closed), leaf)
        self._states[session] = (state, tenant, name)
        return self._states[session]

    def _label(self, label: LabelKey) -> int:
        self._label_number += 1
        self._labels[label] = self._label_number
        self._new_labels.append((self._label_number, *label))
        return self._label_number

    def _flush(self) -> None:
        if not self._rows:
            return
        connection = self.connection
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO label VALUES (?, ?, ?, ?, ?, ?, ?)", self._new_labels)
        connection.executemany(INSERT, self._rows)
        frontier = self._frontier
        connection.execute(
            "INSERT INTO tree_checkpoint VALUES (?, ?, ?)", (frontier.size, frontier.dump(), frontier.root())
        )
        for segment in range(self._segments, segments_whole(frontier.size)):
            count_segment(connection, segment)
        self._segments = segments_whole(frontier.size)
        connection.execute("COMMIT")
        self._rows.clear()
        self._new_labels.clear()
        # With nothing unwritten, whatever is forgotten here can be looked up again.
        if len(self._states) > SESSIONS_MAX:
            self._states.clear()
        if len(self._labels) > LABELS_MAX:
            self._labels.clear()
