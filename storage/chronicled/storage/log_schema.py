"""The log's tables, step by step. A step that was released is never edited: write the next one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from chronicled.storage import segments

__all__ = ["APPLICATION_ID", "LOG_STEPS", "Step", "Work"]

APPLICATION_ID: Final = 0x43_48_52_4F
"""`CHRO`, in the header of the database file: what `file` shows, and how a foreign database is told from ours."""


class Work(msgspec.Struct, frozen=True):
    """What a step must do to what is there already: in batches, so that neither memory nor a transaction grows."""

    batch: Callable[[sqlite3.Connection, int], int | None]
    """Does the next bit from the cursor on, 0 at first, within the transaction that is open; returns the next cursor,
    None when all is done. The cursor is kept in the same transaction: after a crash no batch is done twice or left out.
    """
    total: str
    """The statement that says how far the cursor has to go."""


class Step(msgspec.Struct, frozen=True):
    """One change of the schema, applied in one transaction; its work, if it has some, in further ones."""

    number: int
    name: str
    statements: tuple[str, ...]
    work: Work | None = None


def _append_only(table: str) -> tuple[str, str]:
    # Against mistakes, not against malice: who can write the file can drop a trigger. Evidence is the tree.
    return (
        f"CREATE TRIGGER {table}_update BEFORE UPDATE ON {table} BEGIN SELECT raise(ABORT, 'append-only'); END",
        f"CREATE TRIGGER {table}_delete BEFORE DELETE ON {table} BEGIN SELECT raise(ABORT, 'append-only'); END",
    )


# The payload is the last column, so that whoever filters by the others never walks its overflow pages.
_EVENT: Final = """
CREATE TABLE event (
  position INTEGER PRIMARY KEY,
  session INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  tenant INTEGER NOT NULL,
  id BLOB NOT NULL,
  label INTEGER NOT NULL,
  cause BLOB,
  terminal INTEGER NOT NULL,
  time INTEGER NOT NULL,
  request BLOB,
  traceparent TEXT,
  client_sequence INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  leaf BLOB NOT NULL,
  salt BLOB,
  erased_digest BLOB,
  payload BLOB
) STRICT
"""

# The one exception: payload and salt may go, if their digest takes their place, so that header and leaf still verify.
_EVENT_UPDATE: Final = """
CREATE TRIGGER event_update BEFORE UPDATE ON event WHEN NOT (
  old.payload IS NOT NULL AND old.erased_digest IS NULL
  AND new.payload IS NULL AND new.salt IS NULL AND length(new.erased_digest) = 32
  AND new.position = old.position AND new.session = old.session AND new.sequence = old.sequence
  AND new.tenant = old.tenant AND new.id = old.id AND new.label = old.label
  AND new.cause IS old.cause AND new.terminal = old.terminal AND new.time = old.time AND new.request IS old.request
  AND new.traceparent IS old.traceparent AND new.client_sequence = old.client_sequence AND new.fence = old.fence
  AND new.closed = old.closed AND new.leaf = old.leaf
) BEGIN SELECT raise(ABORT, 'append-only'); END
"""

LOG_STEPS: Final[tuple[Step, ...]] = (
    Step(
        1,
        "the log",
        (
            "CREATE TABLE incarnation (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, base INTEGER NOT NULL,"
            " time INTEGER NOT NULL, reason TEXT NOT NULL) STRICT",
            "INSERT INTO incarnation VALUES (1, :incarnation, 0, :time, 'created')",
            "CREATE TABLE tenant (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",
            "CREATE TABLE session (number INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, name TEXT NOT NULL,"
            " UNIQUE (tenant, name)) STRICT",
            "CREATE TABLE label (number INTEGER PRIMARY KEY, category INTEGER NOT NULL, kind TEXT NOT NULL,"
            " version INTEGER NOT NULL, lane TEXT NOT NULL, source TEXT NOT NULL, actor TEXT NOT NULL) STRICT",
            _EVENT,
            "CREATE UNIQUE INDEX event_session ON event (session, sequence)",
            "CREATE UNIQUE INDEX event_id ON event (tenant, id)",
            "CREATE UNIQUE INDEX event_terminal ON event (tenant, cause) WHERE terminal = 1",
            "CREATE TABLE blob_reference (session INTEGER NOT NULL, digest BLOB NOT NULL, position INTEGER NOT NULL,"
            " PRIMARY KEY (session, digest)) STRICT, WITHOUT ROWID",
            "CREATE TABLE tree_checkpoint (size INTEGER PRIMARY KEY, frontier BLOB NOT NULL, root BLOB NOT NULL)"
            " STRICT",
            _EVENT_UPDATE,
            "CREATE TRIGGER event_delete BEFORE DELETE ON event BEGIN SELECT raise(ABORT, 'append-only'); END",
            *_append_only("incarnation"),
            *_append_only("tenant"),
            *_append_only("session"),
            *_append_only("label"),
            *_append_only("blob_reference"),
            *_append_only("tree_checkpoint"),
        ),
    ),
    Step(
        2,
        "what each segment holds, by label",
        (segments.TABLE, *_append_only("segment_label")),
        Work(segments.count_some, "SELECT coalesce(max(position), 0) FROM event"),
    ),
)
