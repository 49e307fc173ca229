"""Whatever is changed behind the store's back, verification finds it, at the first bad position."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chronicled.events.errors import LogCorrupt
from chronicled.events.store import Append
from chronicled.storage import verification
from chronicled.storage.leaf import payload_digest
from chronicled.storage.record import StoredEvent
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.verification import verify_file

COUNT = 4200
"""Events: over one checkpoint of the tree, with a tail behind it."""
TRIGGERS = ("event_update", "event_delete", "session_update", "label_update", "tree_checkpoint_update")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of two sessions that verifies."""
    path = tmp_path_factory.mktemp("clean") / LOG_NAME

    async def fill() -> None:
        make = DraftMaker()
        async with await SqliteStore.open(path) as store:
            for session in ("a", "b"):
                await store.append(make.create(session))
            action = make.action("a", blobs=("ab" * 32,))
            await store.append(Append((action, make.claimed("a"), make.terminal("a", action.id))))
            requests = (Append((make.action("ab"[number % 2]),)) for number in range(COUNT - store.head))
            await asyncio.gather(*map(store.append, requests))
            assert store.head == COUNT

    asyncio.run(fill())
    return path


@pytest.fixture
def log(clean: Path, tmp_path: Path) -> Path:
    """Return a copy of the log to tamper with."""
    return Path(shutil.copy(clean, tmp_path / LOG_NAME))


@pytest.fixture
async def raw(log: Path) -> AsyncIterator[sqlite3.Connection]:
    """Yield a connection to it without the triggers."""
    connection = sqlite3.connect(log, isolation_level=None)
    for trigger in TRIGGERS:
        connection.execute(f"DROP TRIGGER {trigger}")
    yield connection
    connection.close()


def test_a_clean_log_has_nothing_wrong(clean: Path) -> None:
    """The negative control: without tampering nothing is found, and the root is told."""
    told: list[tuple[int, int]] = []
    report = verify_file(clean, lambda done, total: told.append((done, total)))
    assert (report.problems, report.first_bad_position, report.events) == ((), None, COUNT)
    assert told[-1] == (COUNT, COUNT)


@pytest.mark.parametrize("column", [name for name in StoredEvent._fields if name != "position"])
def test_a_changed_column_is_found_where_it_was_changed(log: Path, raw: sqlite3.Connection, column: str) -> None:
    """Every column of a row is bound by the leaf or follows from other rows; no other position is blamed first."""
    raw.execute("DROP INDEX event_session")
    raw.execute("DROP INDEX event_id")
    (kind,) = raw.execute(f"SELECT typeof({column}) FROM event WHERE position = 2001").fetchone()
    changed = {
        "integer": f"{column} + 1",
        "text": f"{column} || 'x'",
        "blob": f"CAST({column} || x'00' AS BLOB)",
        "null": "'00-1'" if column == "traceparent" else "zeroblob(32)",
    }[kind]
    raw.execute(f"UPDATE event SET {column} = {changed} WHERE position = 2001")
    assert verify_file(log).first_bad_position == 2001


@pytest.mark.parametrize("position", [1, 2, 777, 4096, 4097, COUNT])
def test_a_deleted_row_is_missed(log: Path, raw: sqlite3.Connection, position: int) -> None:
    """A gap is found where it is, at either end too: a clean close leaves a checkpoint of the tree at the head."""
    raw.execute("DELETE FROM event WHERE position = ?", (position,))
    report = verify_file(log)
    assert report.first_bad_position == position
    assert "missing" in report.problems[0]


def test_swapped_rows_are_found(log: Path, raw: sqlite3.Connection) -> None:
    """Two events that change places are found at the earlier place."""
    raw.execute("UPDATE event SET position = -1 WHERE position = 500")
    raw.execute("UPDATE event SET position = 500 WHERE position = 900")
    raw.execute("UPDATE event SET position = 900 WHERE position = -1")
    assert verify_file(log).first_bad_position == 500


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE session SET name = 'c' WHERE name = 'b'", 2),
        ("UPDATE label SET actor = 'root' WHERE kind = 'session_claimed'", 4),
        ("DELETE FROM label WHERE kind = 'session_claimed'", 4),
        ("UPDATE event SET erased_digest = zeroblob(32) WHERE position = 9", 9),
        ("UPDATE event SET payload = NULL, salt = NULL WHERE position = 9", 9),
    ],
)
def test_what_rows_refer_to_is_bound_too(log: Path, raw: sqlite3.Connection, statement: str, first: int) -> None:
    """A renamed session, a changed or missing label, a payload taken away: found at the first event concerned."""
    raw.execute("DROP TRIGGER label_delete")
    raw.execute(statement)
    assert verify_file(log).first_bad_position == first


def test_a_rewritten_tail_does_not_match_the_tree(log: Path, raw: sqlite3.Connection) -> None:
    """A forger who computes a fitting leaf is found by the session's next event; at its end, by the checkpoint."""
    raw.execute("DROP TRIGGER tree_checkpoint_delete")
    raw.execute("UPDATE tree_checkpoint SET root = zeroblob(32) WHERE size = ?", (COUNT,))
    (sound,) = raw.execute("SELECT max(size) FROM tree_checkpoint WHERE size < ?", (COUNT,)).fetchone()
    report = verify_file(log)
    # Nothing tells where in between it was: the first that no sound checkpoint vouches for.
    assert 4096 <= sound < COUNT
    assert report.first_bad_position == sound + 1
    assert f"checkpoint at position {COUNT}" in report.problems[0]


def test_a_second_terminal_observation_is_found(log: Path, raw: sqlite3.Connection) -> None:
    """Also when the index that forbids it is gone."""
    raw.execute("DROP INDEX event_terminal")
    (cause,) = raw.execute("SELECT cause FROM event WHERE terminal = 1").fetchone()
    raw.execute("UPDATE event SET terminal = 1, cause = ? WHERE position = 3000", (cause,))
    report = verify_file(log)
    assert report.first_bad_position == 3000
    assert any("second terminal" in problem for problem in report.problems)


def test_a_blob_given_to_another_session_is_found(log: Path, raw: sqlite3.Connection) -> None:
    """Blobs are reached through their session: a reference that no event of the session made is a finding."""
    (owner,) = raw.execute("SELECT session FROM blob_reference").fetchone()
    (other,) = raw.execute("SELECT number FROM session WHERE number != ?", (owner,)).fetchone()
    (position,) = raw.execute("SELECT position FROM blob_reference").fetchone()
    raw.execute("INSERT INTO blob_reference SELECT ?, digest, position FROM blob_reference", (other,))
    report = verify_file(log)
    assert report.first_bad_position == position
    assert "blob" in report.problems[0]


def test_damaged_pages_are_reported(log: Path) -> None:
    """Bytes flipped in the file itself are a finding or a named error, never a crash and never a clean bill."""
    data = bytearray(log.read_bytes())
    for offset in range(4096 * 40, 4096 * 60, 97):
        data[offset] ^= 0xFF
    log.write_bytes(data)
    problems: tuple[str, ...] = ("the file cannot be read at all",)
    with contextlib.suppress(LogCorrupt):
        problems = verify_file(log).problems
    assert problems


def test_a_damaged_schema_is_a_named_error(log: Path) -> None:
    """Also where what SQLite quotes of it is no text."""
    data = log.read_bytes()
    assert b"CREATE TABLE event" in data
    log.write_bytes(data.replace(b"CREATE TABLE event", b"CREATE TABL\xff event"))
    with pytest.raises(LogCorrupt, match="cannot be read"):
        verify_file(log)


def test_looks_that_contradict_each_other_are_a_finding(
    log: Path, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage may show an id twice to one look, and to the next one not at all: that is told, and ends nothing."""
    raw.execute("DROP INDEX event_id")
    raw.execute("UPDATE event SET id = (SELECT id FROM event WHERE position = 9) WHERE position = 10")
    monkeypatch.setattr(verification, "SECOND", f"SELECT * FROM ({verification.SECOND}) WHERE false")
    assert any("contradicts" in problem for problem in verify_file(log).problems)


def test_the_triggers_stop_mistakes(clean: Path) -> None:
    """Update and delete are refused by the database itself, in every table of the log."""
    connection = sqlite3.connect(clean, isolation_level=None)
    for table in ("event", "session", "tenant", "label", "incarnation", "tree_checkpoint", "blob_reference"):
        (column,) = connection.execute(f"SELECT name FROM pragma_table_info('{table}') LIMIT 1").fetchone()
        for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


async def test_a_start_finds_what_is_missing_behind_the_last_checkpoint(log: Path, raw: sqlite3.Connection) -> None:
    """A log whose newest events have a gap is not built upon: the start is refused, and nothing is written."""
    raw.execute("DROP TRIGGER tree_checkpoint_delete")
    raw.execute("DELETE FROM tree_checkpoint WHERE size = ?", (COUNT,))
    raw.execute("DELETE FROM event WHERE position = ?", (COUNT - 10,))
    with pytest.raises(LogCorrupt, match="should be there"):
        await SqliteStore.open(log)
    raw.execute("UPDATE tree_checkpoint SET frontier = x'00'")
    with pytest.raises(LogCorrupt, match="checkpoint"):
        await SqliteStore.open(log)


def test_erasure_leaves_a_log_that_verifies(log: Path) -> None:
    """Payload and salt may go if their digest takes their place, once, and nothing else with them."""
    connection = sqlite3.connect(log, isolation_level=None)
    salt, payload = connection.execute("SELECT salt, payload FROM event WHERE position = 50").fetchone()
    erase = "UPDATE event SET payload = NULL, salt = NULL, erased_digest = ? {} WHERE position = 50"
    digest = payload_digest(salt, payload)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(erase.format(", time = 1"), (digest,))
    connection.execute(erase.format(""), (digest,))
    assert verify_file(log).problems == ()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(erase.format(""), (bytes(32),))
    connection.close()


async def test_a_live_log_misses_its_cut_tail(tmp_path: Path) -> None:
    """A running store knows its head and root, so it sees what no file alone can show: that the newest are gone."""
    make = DraftMaker()
    async with await SqliteStore.open(tmp_path / LOG_NAME) as store:
        await store.append(make.create("s"))
        for _ in range(5):
            await store.append(Append((make.action("s"),)))
        connection = sqlite3.connect(store.path, isolation_level=None)
        connection.execute("DROP TRIGGER event_delete")
        connection.execute("DELETE FROM event WHERE position > 4")
        connection.close()
        problems = await store.verify()
        assert problems
        assert problems[0].startswith("position 5: missing")
