"""The copy before a migration: never without room for it, one for a run, whole, where it was asked for."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
from tests.golden.databases import golden_databases, unpack

from chronicled.events.errors import LogCorrupt, Refused
from chronicled.events.store import Append
from chronicled.storage.backup import back_up, backup_path, backups_of
from chronicled.storage.connection import open_writer
from chronicled.storage.log_schema import LOG_STEPS, Step
from chronicled.storage.schema import Backup, apply_steps, schema_status
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker

VALUES: dict[str, str | int] = {"incarnation": "i", "time": 1}
NEXT = Step(len(LOG_STEPS) + 1, "one more", ("CREATE TABLE more (x INTEGER) STRICT",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a log as a program of step 1 left it."""
    path = tmp_path / "data" / LOG_NAME
    path.parent.mkdir()
    unpack(golden_databases()[0], path)
    return path


def ignore(_done: int, _total: int) -> None:
    """Hear nothing of the progress."""


def test_without_room_nothing_is_written(path: Path) -> None:
    """Too little room is told before anything is written, with the sizes and what to do."""
    with closing(open_writer(path)) as connection:
        target = backup_path(path, 2)
        with pytest.raises(Refused, match=r"needs \d+ MiB .*--backup-to"):
            back_up(connection, target, ignore, lambda _: 1 << 20)
        assert backups_of(path) == []
        assert not [name for name in os.listdir(path.parent) if name.endswith(".part")]
        back_up(connection, target, ignore, lambda _: 1 << 40)
    assert backups_of(path) == [target]


async def test_a_start_without_room_is_refused_and_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon's start that would have to migrate says so, and the log stays at its step."""
    monkeypatch.setattr("chronicled.storage.backup._free", Mock(return_value=1 << 20))
    with pytest.raises(Refused, match="free; nothing was changed"):
        await SqliteStore.open(path)
    assert schema_status(path).current == 1
    async with await SqliteStore.open(path, backup=Backup(wanted=False)):
        assert schema_status(path).current == len(LOG_STEPS)
    assert backups_of(path) == []


def test_the_copy_goes_where_it_was_asked_for(path: Path, tmp_path: Path) -> None:
    """Another directory takes the copy; one that is not there is refused."""
    with closing(open_writer(path)) as connection:
        with pytest.raises(Refused, match="no directory"):
            apply_steps(connection, path, 2, VALUES, backup=Backup(directory=tmp_path / "absent"))
        apply_steps(connection, path, 2, VALUES, backup=Backup(directory=tmp_path))
    assert backups_of(path) == []
    assert schema_status(tmp_path / f"{LOG_NAME}.before-step-2").current == 1


async def test_a_copy_of_this_very_state_is_kept_and_an_older_one_replaced(path: Path) -> None:
    """A run that was ended after its copy need not make it again; a log that went on meanwhile needs a new one."""
    target = backup_path(path, len(LOG_STEPS) + 1)
    async with await SqliteStore.open(path, backup=Backup(wanted=False)):
        pass
    with closing(open_writer(path)) as connection:
        back_up(connection, target, ignore)
        first = target.stat()
        back_up(connection, target, ignore)
        assert (target.stat().st_ino, target.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    async with await SqliteStore.open(path) as store:
        await store.append(Append((DraftMaker().action("session-1"),)))
        head = store.head
    with closing(open_writer(path)) as connection:
        assert apply_steps(connection, path, 2, VALUES, (*LOG_STEPS, NEXT)) == 1
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT max(position) FROM event").fetchone() == (head,)


async def test_the_copy_takes_the_place_of_the_log_again(path: Path) -> None:
    """The way back: the copy under the log's name opens, at the step before."""
    events = 8300
    async with await SqliteStore.open(path):
        pass
    back = path.parent / "back" / LOG_NAME
    back.parent.mkdir()
    shutil.copyfile(backup_path(path, 2), back)
    assert schema_status(back).current == 1
    async with await SqliteStore.open(back) as store:
        assert store.head == events


def test_a_damaged_log_is_not_migrated(path: Path) -> None:
    """What SQLite finds damaged is told before anything is changed or copied."""
    data = bytearray(path.read_bytes())
    page = 4096
    for start in range(200 * page, 220 * page, page):
        data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    with closing(open_writer(path)) as connection, pytest.raises(LogCorrupt, match="before the migration"):
        apply_steps(connection, path, 2, VALUES)
    assert backups_of(path) == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT max(number) FROM schema_step").fetchone() == (1,)


def test_progress_is_told(path: Path) -> None:
    """Whoever listens hears of the check, the copy and the work, and each ends where it goes."""
    heard: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, total: int) -> None:
        heard.append((what, done, total))

    with closing(open_writer(path)) as connection:
        apply_steps(connection, path, 2, VALUES, progress=tell)
    names = list(dict.fromkeys(what for what, _, _ in heard))
    assert names[0] == "checking before the migration"
    assert names[-1] == "checking after the migration"
    assert any(name.startswith("copying the log to ") for name in names)
    assert LOG_STEPS[1].name in names
    for name in names[1:-1]:
        last = [(done, total) for what, done, total in heard if what == name][-1]
        assert last[0] == last[1] > 0


LOSING = ("DROP TRIGGER event_delete", "DELETE FROM event WHERE position > 3")
CONTRADICTING = (
    "DROP TRIGGER event_update",
    "UPDATE event SET payload = NULL WHERE position = 3",
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_schema SET sql = replace(sql, 'payload BLOB', 'payload BLOB NOT NULL') WHERE name = 'event'",
    "PRAGMA writable_schema = RESET",
)


@pytest.mark.parametrize(
    ("statements", "words"), [(LOSING, "does not end as before"), (CONTRADICTING, "checking after the migration")]
)
def test_a_migration_that_did_harm_is_not_taken_for_done(path: Path, statements: tuple[str, ...], words: str) -> None:
    """Negative control: a step that loses the end, or leaves what contradicts itself, is told; the copy is there."""
    harmful = Step(len(LOG_STEPS) + 1, "harm", statements)
    with closing(open_writer(path)) as connection:
        apply_steps(connection, path, 2, VALUES, backup=Backup(wanted=False))
        with pytest.raises(LogCorrupt, match=words):
            apply_steps(connection, path, 3, VALUES, [*LOG_STEPS, harmful])
    assert [each.name for each in backups_of(path)] == [f"{LOG_NAME}.before-step-{harmful.number}"]
