"""The database schema as numbered steps: each in a transaction, a backup first, a newer database refused by name.

Not to be mixed up with migrations of payloads, which happen on reading and change no stored byte.

What is left when the process is killed, wherever that is: the database as before, with or without a copy beside it; or
after some of the steps; or in the middle of a step's work, with the cursor from which the next run goes on. From the
moment a step has begun, programs that do not know it refuse the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events import faultpoint
from chronicled.events.errors import LogCorrupt, Refused, SchemaTooNew
from chronicled.storage.backup import back_up, backup_path
from chronicled.storage.connection import open_reader
from chronicled.storage.log_schema import APPLICATION_ID, LOG_STEPS, Step, Work

__all__ = [
    "BESIDE",
    "Backup",
    "Progress",
    "SchemaStatus",
    "apply_steps",
    "check_schema",
    "schema_status",
    "schema_version",
]

HISTORY: Final = (
    "CREATE TABLE schema_step (number INTEGER PRIMARY KEY, name TEXT NOT NULL, time INTEGER NOT NULL) STRICT"
)
WORK: Final = "CREATE TABLE schema_work (step INTEGER PRIMARY KEY, cursor INTEGER NOT NULL) STRICT"
"""There only while a step's work is not done."""
CHECK_INSTRUCTIONS: Final = 2_000_000
"""Of SQLite's machine between two signs of life in a check: some hundredths of a second."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how far it is and how far it goes; 0 and 0 where that is not known. Called in the
connection's thread, many times a second at most."""


class Backup(msgspec.Struct, frozen=True):
    """What becomes of the copy that is made before the first step."""

    wanted: bool = True
    directory: Path | None = None
    """Where it goes; None is beside the database."""


BESIDE: Final = Backup()
"""The default: one copy, beside the database."""


class SchemaStatus(msgspec.Struct, frozen=True):
    """How far a database is, and what it lacks."""

    current: int
    """Number of the newest step that was applied or begun, 0 for a database that does not exist yet."""
    newest: int
    """Number of the newest step that this version knows."""
    pending: tuple[str, ...]
    """Names of the steps in between."""
    unfinished: str | None = None
    """Name of the step whose work was begun and is not done: it is at it, or was interrupted."""


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
    *,
    backup: Backup = BESIDE,
    progress: Progress | None = None,
) -> int:
    """Bring the open database (in autocommit mode) to the newest step; return the number of steps applied or finished.

    An existing database is checked and copied first (`NAME.before-step-N`, one copy for the whole run), and checked
    again afterwards. Each step is one transaction, and each batch of its work another one. Can be repeated after any
    failure or crash: it goes on where it was.

    Args:
        connection: The only connection to the database.
        path: Where the database is.
        time: Now, microseconds since 1970.
        values: What the steps' statements may refer to as `:name`.
        steps: All steps in order.
        backup: What becomes of the copy.
        progress: Told how it goes.

    Raises:
        SchemaTooNew: the database has seen a step that is not known here; nothing was changed.
        LogCorrupt: it is not ours, or damaged.
        Refused: there is no room for the copy; nothing was changed.
    """
    current = schema_version(connection)
    _check_known(current, steps)
    unfinished = _unfinished(connection)
    if current == len(steps) and unfinished is None:
        return 0
    tell = progress or _silent
    if current == 0:
        for step in steps:
            _begin(connection, step, time, values)
        return len(steps)
    # Else a step that makes an index over all rows would sort them in memory.
    connection.execute("PRAGMA temp_store = FILE")
    try:
        return _migrate(connection, path, time, values, steps, backup, tell)
    finally:
        connection.execute("PRAGMA temp_store = MEMORY")


def _migrate(
    connection: sqlite3.Connection,
    path: Path,
    time: int,
    values: Mapping[str, str | int],
    steps: Sequence[Step],
    backup: Backup,
    tell: Progress,
) -> int:
    current, unfinished = schema_version(connection), _unfinished(connection)
    applied, end = 0, _end(connection)
    _check(connection, "checking before the migration", tell)
    if unfinished is not None:
        _work(connection, steps[current - 1], tell)
        applied += 1
    if backup.wanted and current < len(steps):
        target = backup_path(path, current + 1, backup.directory)
        back_up(connection, target, lambda done, total: tell("copying the log to " + str(target), done, total))
        faultpoint.reached("backup_to_step")
    for step in steps[current:]:
        _begin(connection, step, time, values)
        _work(connection, step, tell)
        applied += 1
        faultpoint.reached("between_steps")
    _check(connection, "checking after the migration", tell)
    if _end(connection) != end:
        raise LogCorrupt("After the migration the log does not end as before; go back to the copy made before it.")
    return applied


def schema_status(path: Path, steps: Sequence[Step] = LOG_STEPS) -> SchemaStatus:
    """Return how far the database at `path` is, without changing it; beside a running daemon too.

    Raises:
        SchemaTooNew: it has seen a step that is not known here.
        LogCorrupt: it is not ours.
    """
    current, unfinished = 0, None
    if path.exists():
        try:
            with closing(open_reader(path)) as connection:
                current, unfinished = schema_version(connection), _unfinished(connection)
        except sqlite3.Error as error:
            raise LogCorrupt(f"The log's database cannot be read: {error}.") from None
    _check_known(current, steps)
    name = None if unfinished is None else steps[unfinished - 1].name
    return SchemaStatus(current, len(steps), tuple(step.name for step in steps[current:]), name)


def check_schema(path: Path) -> None:
    """Return if a program that only reads can make sense of the database at `path`.

    Raises:
        SchemaTooNew: it has seen a step that is not known here.
        LogCorrupt: it is not ours.
        Refused: a migration is at work there, or was interrupted.
    """
    if name := schema_status(path).unfinished:
        raise Refused(
            f"The log's migration ({name}) is not done: wait for it, or let it go on with `chronicled migrate up`."
        )


def _check_known(current: int, steps: Sequence[Step]) -> None:
    if current > len(steps):
        raise SchemaTooNew(
            f"The log is at schema step {current}; this version knows {len(steps)}. Use the version that wrote it.",
            current=current,
            newest=len(steps),
        )


def _unfinished(connection: sqlite3.Connection) -> int | None:
    """Return the number of the step whose work is not done."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_work'").fetchone() is None:
        return None
    (number,) = connection.execute("SELECT max(step) FROM schema_work").fetchone()
    return None if number is None else int(number)


def _begin(connection: sqlite3.Connection, step: Step, time: int, values: Mapping[str, str | int]) -> None:
    """Apply the step's statements, and note that its work is to be done, if there is something to do."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if step.number == 1:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(HISTORY)
        for statement in step.statements:
            connection.execute(statement, values)
        if step.work is not None and _total(connection, step.work) > 0:
            connection.execute(WORK)
            connection.execute("INSERT INTO schema_work VALUES (?, 0)", (step.number,))
        connection.execute("INSERT INTO schema_step VALUES (?, ?, ?)", (step.number, step.name, time))
        faultpoint.reached("step_to_commit")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _work(connection: sqlite3.Connection, step: Step, tell: Progress) -> None:
    """Do what is left of the step's work, batch by batch."""
    if step.work is None or _unfinished(connection) is None:
        return
    total = _total(connection, step.work)
    cursor: int | None
    (cursor,) = connection.execute("SELECT cursor FROM schema_work WHERE step = ?", (step.number,)).fetchone()
    while cursor is not None:
        tell(step.name, cursor, total)
        connection.execute("BEGIN IMMEDIATE")
        try:
            cursor = step.work.batch(connection, cursor)
            if cursor is None:
                connection.execute("DROP TABLE schema_work")
            else:
                connection.execute("UPDATE schema_work SET cursor = ? WHERE step = ?", (cursor, step.number))
            faultpoint.reached("batch_to_commit")
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise
        # Nobody else checkpoints: else the write-ahead log would grow with the work.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        faultpoint.reached("between_batches")
    tell(step.name, total, total)


def _total(connection: sqlite3.Connection, work: Work) -> int:
    (total,) = connection.execute(work.total).fetchone()
    return int(total)


def _end(connection: sqlite3.Connection) -> object:
    return connection.execute("SELECT position, leaf FROM event ORDER BY position DESC LIMIT 1").fetchone()


def _check(connection: sqlite3.Connection, what: str, tell: Progress) -> None:
    """Have SQLite check the file from page to page, with its indexes: a second for each million events."""
    tell(what, 0, 0)
    connection.set_progress_handler(lambda: tell(what, 0, 0), CHECK_INSTRUCTIONS)
    try:
        problems = [text for (text,) in connection.execute("PRAGMA integrity_check(3)")]
    finally:
        connection.set_progress_handler(None, 0)
    if problems != ["ok"]:
        raise LogCorrupt(
            f"While {what}, SQLite found the log's database damaged: {'; '.join(problems)[:500]}. Restore a copy."
        )


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _silent(_what: str, _done: int, _total: int) -> None:
    pass
