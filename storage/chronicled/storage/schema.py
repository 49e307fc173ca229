"""The database schema as numbered steps: each in a transaction, a backup first, a newer database refused by name.

Not to be mixed up with migrations of payloads, which happen on reading and change no stored byte.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events.errors import LogCorrupt, SchemaTooNew
from chronicled.storage.connection import open_reader
from chronicled.storage.log_schema import APPLICATION_ID, LOG_STEPS, Step

__all__ = ["SchemaStatus", "apply_steps", "schema_status", "schema_version"]

HISTORY: Final = (
    "CREATE TABLE schema_step (number INTEGER PRIMARY KEY, name TEXT NOT NULL, time INTEGER NOT NULL) STRICT"
)


class SchemaStatus(msgspec.Struct, frozen=True):
    """How far a database is, and what it lacks."""

    current: int
    """Number of the newest step that was applied, 0 for a database that does not exist yet."""
    newest: int
    """Number of the newest step that this version knows."""
    pending: tuple[str, ...]
    """Names of the steps in between."""


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the number of the newest step that the open database has seen; 0 for an empty one.

    Raises:
        LogCorrupt: it is a database, but not ours.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        return 0
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID or "schema_step" not in tables:
        raise LogCorrupt("The file is an SQLite database, but not a log of chronicled.")
    (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM schema_step").fetchone()
    return int(number)


def apply_steps(
    connection: sqlite3.Connection,
    path: Path,
    time: int,
    values: Mapping[str, str | int],
    steps: Sequence[Step] = LOG_STEPS,
) -> int:
    """Bring the open database (in autocommit mode) to the newest step; return the number of steps applied.

    Before an existing database is stepped, it is copied to `NAME.before-step-N` beside it, synced. Each step is one
    transaction: after a crash the database stands at a step, never in between.

    Args:
        connection: The only connection to the database.
        path: Where the database is.
        time: Now, microseconds since 1970.
        values: What the steps' statements may refer to as `:name`.
        steps: All steps in order.

    Raises:
        SchemaTooNew: the database has seen a step that is not known here; nothing was changed.
        LogCorrupt: it is not ours.
    """
    current = schema_version(connection)
    if current > len(steps):
        raise SchemaTooNew(
            f"The log is at schema step {current}; this version knows {len(steps)}. Use the version that wrote it.",
            current=current,
            newest=len(steps),
        )
    if 0 < current < len(steps):
        _back_up(connection, path.with_name(f"{path.name}.before-step-{current + 1}"))
    for step in steps[current:]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if step.number == 1:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(HISTORY)
            for statement in step.statements:
                connection.execute(statement, values)
            connection.execute("INSERT INTO schema_step VALUES (?, ?, ?)", (step.number, step.name, time))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return len(steps) - current


def schema_status(path: Path, steps: Sequence[Step] = LOG_STEPS) -> SchemaStatus:
    """Return how far the database at `path` is, without changing it; beside a running daemon too.

    Raises:
        SchemaTooNew: it has seen a step that is not known here.
        LogCorrupt: it is not ours.
    """
    current = 0
    if path.exists():
        try:
            with closing(open_reader(path)) as connection:
                current = schema_version(connection)
        except sqlite3.Error as error:
            raise LogCorrupt(f"The log's database cannot be read: {error}.") from None
    if current > len(steps):
        raise SchemaTooNew(
            f"The log is at schema step {current}; this version knows {len(steps)}.", current=current, newest=len(steps)
        )
    return SchemaStatus(current, len(steps), tuple(step.name for step in steps[current:]))


def _back_up(connection: sqlite3.Connection, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    copy = sqlite3.connect(part)
    try:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()
    descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(part, target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
