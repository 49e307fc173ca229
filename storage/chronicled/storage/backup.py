"""The copy of a database that is made before its schema changes: whole, synced, and never more than the disk has."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from chronicled.events import faultpoint
from chronicled.events.errors import Refused

__all__ = ["back_up", "backup_path", "backups_of"]

PAGES: Final = 4096
"""Copied between two signs of life: 16 MiB."""
SPARE_BYTES: Final = 64 << 20
"""Room that must be left beside the copy: the write-ahead log of the steps, and what runs on the same disk."""
PART: Final = ".part"

Counter = Callable[[int, int], None]


def backup_path(path: Path, step: int, directory: Path | None = None) -> Path:
    """Return where the copy of the database at `path` is kept that is made before that step."""
    return (directory or path.parent) / f"{path.name}.before-step-{step}"


def backups_of(path: Path) -> list[Path]:
    """Return the whole copies that stand beside the database."""
    found = path.parent.glob(f"{path.name}.before-step-*")
    return sorted(each for each in found if each.suffix.removeprefix(".before-step-").isdecimal())


def back_up(
    connection: sqlite3.Connection, target: Path, progress: Counter, free_bytes: Callable[[Path], int] | None = None
) -> None:
    """Copy the open database to `target`, which has its name only once it is whole and synced.

    A copy of exactly this state, which a run that was ended left behind, is kept as it is.

    Args:
        connection: The only connection that writes.
        target: Where the copy goes; an older one there is replaced.
        progress: Told how many bytes are done, of how many.
        free_bytes: How much room a directory's disk has; the real disk's by default.

    Raises:
        Refused: the disk has not the room for it, or the directory is missing; nothing was written.
        sqlite3.Error, OSError: it could not be copied; what there is of it has another name.
    """
    part = target.with_name(target.name + PART)
    part.unlink(missing_ok=True)
    if target.exists() and _state(connection) == _state_of(target):
        return
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if not target.parent.is_dir():
        raise Refused(f"There is no directory {target.parent} for the backup.")
    needed, free = pages * page_bytes + SPARE_BYTES, (free_bytes or _free)(target.parent)
    if free < needed:
        raise Refused(
            f"The backup before the migration needs {needed >> 20} MiB in {target.parent}, and {free >> 20} MiB are "
            "free; nothing was changed. Make room, or run `chronicled migrate up --backup-to DIRECTORY` with one on "
            "another disk, or with --no-backup if you have a copy of your own."
        )
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        _copy(connection, part, page_bytes, progress)
        _sync(part)
    except BaseException:
        part.unlink(missing_ok=True)  # its room may be what is missing
        raise
    os.replace(part, target)
    _sync(target.parent)


def _copy(connection: sqlite3.Connection, part: Path, page_bytes: int, progress: Counter) -> None:
    def copied(_status: int, remaining: int, total: int) -> None:
        faultpoint.reached("mid_backup")
        progress((total - remaining) * page_bytes, total * page_bytes)

    with closing(sqlite3.connect(part)) as copy:
        # Synced as a whole afterwards, before it has its name.
        copy.execute("PRAGMA synchronous = OFF")
        connection.backup(copy, pages=PAGES, progress=copied)
        copy.execute("PRAGMA journal_mode = DELETE")


def _state(connection: sqlite3.Connection) -> tuple[object, ...]:
    """Return what tells two states of one log apart: it is append-only, so its end, its schema and erasures say all."""
    schema = connection.execute("SELECT count(*), max(number) FROM schema_step").fetchone()
    end = connection.execute("SELECT position, leaf FROM event ORDER BY position DESC LIMIT 1").fetchone()
    erased = connection.execute("SELECT count(*) FROM event WHERE erased_digest IS NOT NULL").fetchone()
    return (schema, end, erased, connection.execute("SELECT max(number), max(time) FROM incarnation").fetchone())


def _state_of(path: Path) -> tuple[object, ...] | None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return _state(connection)
    except sqlite3.Error:
        return None


def _free(directory: Path) -> int:
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
