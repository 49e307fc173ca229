"""The schema steps: one transaction each, a backup first, newer and foreign databases refused."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from chronicled.events.errors import LogCorrupt, SchemaTooNew
from chronicled.storage.census import count_kinds
from chronicled.storage.connection import open_writer
from chronicled.storage.log_schema import LOG_STEPS, Step
from chronicled.storage.schema import apply_steps, schema_status, schema_version
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.verification import verify_file

VALUES: dict[str, str | int] = {"incarnation": "i", "time": 1}
NEXT = Step(len(LOG_STEPS) + 1, "one more", ("CREATE TABLE more (x INTEGER) STRICT",))
BROKEN = Step(len(LOG_STEPS) + 1, "broken", ("CREATE TABLE more (x INTEGER) STRICT", "NONSENSE"))


def modes(directory: Path) -> set[int]:
    """Return the permissions of the files in a directory."""
    return {file.stat().st_mode & 0o777 for file in directory.iterdir()}


def test_steps_are_numbered_from_one() -> None:
    """Numbers are dense, so that the newest number says everything."""
    assert [step.number for step in LOG_STEPS] == list(range(1, len(LOG_STEPS) + 1))


async def test_a_log_on_a_read_only_medium_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot of a closed log is read where nothing can be written; one with a write-ahead log left is refused."""
    async with await SqliteStore.open(tmp_path / LOG_NAME):
        pass
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / LOG_NAME).write_bytes((tmp_path / LOG_NAME).read_bytes())
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def on_read_only_medium(path: str, **options: Any) -> sqlite3.Connection:
        if "immutable" not in path:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path, **options)

    monkeypatch.setattr(sqlite3, "connect", on_read_only_medium)
    with pytest.raises(LogCorrupt, match="cannot be read"):
        schema_status(snapshot / LOG_NAME)
    monkeypatch.setattr(os, "access", Mock(return_value=False))
    assert not schema_status(snapshot / LOG_NAME).pending
    assert verify_file(snapshot / LOG_NAME).problems == ()
    assert count_kinds(snapshot / LOG_NAME) == ()
    (snapshot / f"{LOG_NAME}-wal").write_bytes(b"x")
    with pytest.raises(LogCorrupt, match="cannot be read"):
        schema_status(snapshot / LOG_NAME)


async def test_a_new_log_is_at_the_newest_step(tmp_path: Path) -> None:
    """Opening creates the log at the newest step, with an incarnation, for its owner alone; no backup of nothing."""
    path = tmp_path / LOG_NAME
    assert schema_status(path).pending == tuple(step.name for step in LOG_STEPS)
    assert not path.exists()
    async with await SqliteStore.open(path) as store:
        assert store.incarnation
        assert modes(tmp_path) == {0o600}
    status = schema_status(path)
    assert (status.current, status.newest, status.pending) == (len(LOG_STEPS), len(LOG_STEPS), ())
    assert not [name for name in os.listdir(tmp_path) if "before-step" in name]
    async with await SqliteStore.open(path) as again:
        assert again.incarnation == store.incarnation


async def test_a_newer_log_is_refused_and_untouched(tmp_path: Path) -> None:
    """An older version says what is wrong and changes nothing."""
    path = tmp_path / LOG_NAME
    async with await SqliteStore.open(path):
        pass
    connection = open_writer(path)
    apply_steps(connection, path, 2, VALUES, (*LOG_STEPS, NEXT))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=str(NEXT.number)):
        await SqliteStore.open(path)
    with pytest.raises(SchemaTooNew):
        schema_status(path)
    assert path.read_bytes() == before


async def test_an_existing_log_is_backed_up_before_a_step(tmp_path: Path) -> None:
    """The backup is the whole log as it was, and the step's own work is there afterwards."""
    path = tmp_path / LOG_NAME
    async with await SqliteStore.open(path) as store:
        await store.append(DraftMaker().create("s"))
    connection = open_writer(path)
    assert apply_steps(connection, path, 2, VALUES, (*LOG_STEPS, NEXT)) == 1
    assert schema_version(connection) == NEXT.number
    connection.close()
    backup = tmp_path / f"{LOG_NAME}.before-step-{NEXT.number}"
    assert backup.stat().st_mode & 0o777 == 0o600
    assert schema_status(backup).current == len(LOG_STEPS)
    copy = sqlite3.connect(backup)
    assert copy.execute("SELECT count(*) FROM event").fetchone() == (1,)
    copy.close()


def test_a_failing_step_leaves_the_step_before(tmp_path: Path) -> None:
    """A step happens whole or not at all."""
    path = tmp_path / LOG_NAME
    connection = open_writer(path)
    apply_steps(connection, path, 1, VALUES)
    with pytest.raises(sqlite3.OperationalError):
        apply_steps(connection, path, 2, VALUES, (*LOG_STEPS, BROKEN))
    assert schema_version(connection) == len(LOG_STEPS)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'more'").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("kind", ["text", "database"])
async def test_a_foreign_file_is_refused(tmp_path: Path, kind: str) -> None:
    """What is not a log of ours is named so, and not touched."""
    path = tmp_path / LOG_NAME
    if kind == "text":
        path.write_bytes(b"not a database at all, but long enough to be looked at" * 30)
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
        connection.close()
    with pytest.raises(LogCorrupt):
        schema_status(path)
    with pytest.raises(LogCorrupt):
        await SqliteStore.open(path)
