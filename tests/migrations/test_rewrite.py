"""A log that is written anew says what it said: each event once, what could be brought on is, nothing else changes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.migrations import rewriter
from tests.migrations.rewriter import BLOB, CARRIED, SECRET, words

from chronicled.events.codec import Codec, Opaque
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import Event
from chronicled.events.errors import ActionEnded, CursorGone, IdReused, LogCorrupt, Refused, SessionClosed, StaleFence
from chronicled.events.faultpoint import REWRITE_POINTS
from chronicled.events.store import Append
from chronicled.storage.lock import LOCK_NAME, DirectoryLock
from chronicled.storage.rewrite import RewriteReport, rewrite
from chronicled.storage.rewrite.conversion import Converted
from chronicled.storage.rewrite.source import Row
from chronicled.storage.rewrite.target import Target
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.verification import verify_file

ROOT = Path(__file__).parents[2]
KEPT = ("tenant", "session", "id", "category", "lane", "source", "actor", "time", "cause", "traceparent")
ROUNDS = 4


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a data directory whose log is at rest."""
    directory = tmp_path_factory.mktemp("written") / "old"
    asyncio.run(rewriter.write(directory, ROUNDS))
    return directory


@pytest.fixture
def old(written: Path, tmp_path: Path) -> Path:
    """Give a copy of it."""
    shutil.copytree(written, tmp_path / "old")
    return tmp_path / "old"


def write_anew(old: Path, **options: Any) -> tuple[Path, RewriteReport]:
    """Write the log anew beside the old one."""
    new = old.parent / "new"
    return new, rewrite(old, new, words(), CARRIED, **options)


async def read(directory: Path) -> list[Event]:
    """Return every event of a log."""
    async with await SqliteStore.open(directory / LOG_NAME) as store:
        return list((await store.read(0, 1000)).events) + list(
            (await store.read(1000, 1000)).events if store.head > 1000 else ()
        )


def contents(directory: Path) -> dict[str, str]:
    """Return a digest of each file, but for those of locks and of SQLite's shared memory."""
    return {
        str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != LOCK_NAME and not path.name.endswith(("-shm", "-wal"))
    }


async def test_each_event_is_there_in_its_current_version(old: Path) -> None:
    """What can be read is current and means the same; what cannot has its very bytes; what was erased stays so."""
    before = await read(old)
    new, report = write_anew(old)
    assert not verify_file(new / LOG_NAME).problems
    after = await read(new)
    assert (after[0].kind, after[0].tenant, after[0].session, after[0].sequence) == (
        "log_rewritten",
        "_system",
        "daemon",
        0,
    )
    vocabulary = words()
    codec = Codec(*vocabulary)
    others = iter(after[1:])
    opaque = erased = further = 0
    for event in before:
        other = next(others)
        assert [getattr(other, name) for name in KEPT] == [getattr(event, name) for name in KEPT]
        payload = codec.decode(event)
        if isinstance(payload, Opaque):
            opaque += 1
            erased += payload.why == "erased"
            assert (other.kind, other.version, bytes(other.payload)) == (event.kind, event.version, payload.payload)
            continue
        assert codec.decode(other) == payload
        current = vocabulary.registry.current(event.category, event.kind)
        assert (other.kind, other.version) == (current.kind, current.version)
        if event.kind == "test.visited" and b"rain" in bytes(event.payload):
            other, further = next(others), further + 1
            assert (other.kind, bytes(other.payload)) == ("test.weather_seen", b'{"weather":"rain"}')
            assert (other.session, other.time, other.source) == (event.session, event.time, event.source)
    assert next(others, None) is None
    assert (opaque, erased, further) == (4 * ROUNDS, ROUNDS, ROUNDS)
    assert (report.events_before, report.events) == (len(before), len(before) + 1 + ROUNDS)
    assert rewriter.ERASED.encode() not in (new / LOG_NAME).read_bytes()


async def test_the_first_event_holds_the_end_of_the_former_log(old: Path) -> None:
    """Root, size, last leaf and incarnation of the former log stand in the new one, and can be checked with it."""
    former = verify_file(old / LOG_NAME)
    before = await read(old)
    async with await SqliteStore.open(old / LOG_NAME) as store:
        incarnation = store.incarnation
    new, report = write_anew(old)
    first = (await read(new))[0]
    payload = msgspec.json.decode(first.payload)
    assert payload["former"] == {
        "incarnation": incarnation,
        "size": former.events,
        "root": former.root,
        "leaf": before[-1].leaf,
        "verified": True,
        "problem": None,
    }
    assert report.incarnation == payload["incarnation"] != incarnation
    async with await SqliteStore.open(new / LOG_NAME) as store:
        assert store.incarnation == report.incarnation
        with pytest.raises(CursorGone):
            Cursor.parse(f"7@{incarnation}").resolve(store.incarnation, store.head)
    with closing(sqlite3.connect(new / LOG_NAME)) as connection:
        rows = connection.execute("SELECT name, reason FROM incarnation ORDER BY number").fetchall()
    assert rows == [(incarnation, "created"), (report.incarnation, "rewritten")]


async def test_what_was_promised_goes_on(old: Path) -> None:
    """A retry finds its event, an ended action stays ended, a closed session closed, an old fence stale."""
    before = await read(old)
    new, _ = write_anew(old)
    action = next(event for event in before if event.kind == "run" and event.traceparent)
    maker = DraftMaker()
    request = sha256(action.id.encode()).digest()
    retry = replace(
        maker.action("s"), id=action.id, fresh=False, request=request, lane=action.lane, payload=bytes(action.payload)
    )
    async with await SqliteStore.open(new / LOG_NAME) as store:
        appended = await store.append(Append((retry,)))
        assert (appended.repeated, appended.events[0].id) == (True, action.id)
        with pytest.raises(IdReused):
            await store.append(Append((replace(retry, request=bytes(32)),)))
        with pytest.raises(ActionEnded):
            await store.append(Append((maker.terminal("s", action.id),)))
        with pytest.raises(SessionClosed):
            await store.append(Append((maker.action("t"),)))
        claim = [event for event in before if event.kind == "session_claimed"][-1]
        with pytest.raises(StaleFence):
            await store.append(Append((maker.action("s"),), fence=claim.position))
        again = await store.append(Append((maker.claimed("s"),)))
        assert again.events[0].position > claim.position
        assert await store.names_blob("default", "s", sha256(BLOB).hexdigest())
        assert not await store.names_blob("other", "s", sha256(BLOB).hexdigest())
    assert not verify_file(new / LOG_NAME).problems


def test_what_belongs_to_the_log_goes_along_and_nothing_else(old: Path) -> None:
    """Blobs, secrets and identity are in the new directory, for their owner alone; leftovers of sandboxes are not."""
    before = contents(old)
    new, report = write_anew(old)
    digest = sha256(BLOB).hexdigest()
    assert (new / "blobs" / digest[:2] / digest).read_bytes() == BLOB
    assert (new / "secrets" / "default" / "s" / "record").read_bytes() == SECRET
    assert sorted(path.name for path in new.iterdir()) == [
        "blobs", LOCK_NAME, "instance.json", LOG_NAME, "secrets", "secrets.key",
    ]  # fmt: skip
    assert new.stat().st_mode & 0o777 == 0o700
    assert (new / LOG_NAME).stat().st_mode & 0o777 == 0o600
    assert report.blobs_missing == ()
    assert contents(old) == before, "the former directory was changed"
    with DirectoryLock(new), DirectoryLock(old):
        pass


def test_a_blob_that_is_missing_or_damaged_is_told(old: Path) -> None:
    """The rewrite goes on without it, as the log had to, and names it."""
    digest = sha256(BLOB).hexdigest()
    (old / "blobs" / digest[:2] / digest).write_bytes(BLOB[:-1] + b"?")
    new, report = write_anew(old)
    assert report.blobs_missing == (digest,)
    assert not (new / "blobs" / digest[:2] / digest).exists()


def test_a_rewrite_of_a_rewrite_keeps_both_ends(old: Path) -> None:
    """The chain of former logs is not broken by another rewrite, and a log that is current is copied byte for byte."""
    new, first = write_anew(old)
    second = rewrite(new, old.parent / "newer", words(), CARRIED)
    assert (second.events_before, second.events, second.events_changed) == (first.events, first.events + 1, 0)
    assert second.root_before == first.root
    kinds = [event.kind for event in asyncio.run(read(old.parent / "newer"))[:3]]
    assert kinds == ["log_rewritten", "log_rewritten", "daemon_started"]


async def test_an_empty_log_can_be_written_anew(tmp_path: Path) -> None:
    """A log without any event becomes one with the one that says so."""
    (tmp_path / "old").mkdir()
    async with await SqliteStore.open(tmp_path / "old" / LOG_NAME):
        pass
    new, report = write_anew(tmp_path / "old")
    assert (report.events_before, report.events) == (0, 1)
    assert [event.kind for event in await read(new)] == ["log_rewritten"]


@pytest.mark.parametrize("what", ["action", "sandbox", "generation"])
async def test_a_log_that_is_not_at_rest_is_refused(old: Path, what: str) -> None:
    """An open action or a sandbox belongs to the directory that it was begun in; the session is named."""
    maker = DraftMaker()
    ids = b'{"sandbox":"x","generation":"g","runtime":"process"}'
    async with await SqliteStore.open(old / LOG_NAME) as store:
        await store.append(maker.create("busy"))
        draft = {
            "action": maker.action("busy"),
            "sandbox": maker.draft("busy", "sandbox_requested", "lifecycle", ids),
            "generation": maker.draft("busy", "generation_started", "lifecycle", ids),
        }[what]
        await store.append(Append((draft,)))
    with pytest.raises(Refused, match="session 'busy'"):
        write_anew(old)
    assert sorted(os.listdir(old.parent)) == ["old"]
    async with await SqliteStore.open(old / LOG_NAME) as store:
        end = {
            "action": maker.terminal("busy", draft.id),
            "sandbox": maker.draft("busy", "sandbox_removed", "lifecycle", ids),
            "generation": maker.draft("busy", "generation_ended", "lifecycle", ids),
        }[what]
        await store.append(Append((end,)))
    write_anew(old)


def test_places_that_are_taken_are_refused(old: Path) -> None:
    """A directory in use, one inside the other, and what stands in the way are left as they are."""
    new = old.parent / "new"
    new.mkdir()
    (new / "mine").write_text("mine")
    for target, said in ((new, "not empty"), (old / "new", "beside"), (old.parent, "beside"), (old, "beside")):
        with pytest.raises(Refused, match=said):
            rewrite(old, target, words())
    with pytest.raises(Refused, match="no log"):
        rewrite(new, old.parent / "other", words())
    (new / "mine").unlink()
    building = old.parent / "new.rewriting"
    building.mkdir()
    (building / "mine").write_text("mine")
    with pytest.raises(Refused, match="was not left by a rewrite"):
        write_anew(old)
    assert (building / "mine").read_text() == "mine"
    shutil.rmtree(building)
    write_anew(old)


def test_a_log_that_does_not_verify_is_copied_only_if_that_is_accepted(old: Path) -> None:
    """The first event then says that it did not, and where."""
    with closing(sqlite3.connect(old / LOG_NAME, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER event_update")
        connection.execute("UPDATE event SET salt = zeroblob(16) WHERE position = 9")
    with pytest.raises(LogCorrupt, match="position 9"):
        write_anew(old)
    assert sorted(os.listdir(old.parent)) == ["old"]
    new, report = write_anew(old, accept_damage=True)
    former = msgspec.json.decode(asyncio.run(read(new))[0].payload)["former"]
    assert (report.verified, former["verified"]) == (False, False)
    assert former["problem"].startswith("position 9: ")


@pytest.mark.parametrize("break_", ["payload", "lost", "request", "twice", "more"])
def test_a_copy_that_is_wrong_is_thrown_away(old: Path, monkeypatch: pytest.MonkeyPatch, break_: str) -> None:
    """Negative control: whatever a broken copy does to an event, the comparison finds it, though the log verifies."""
    add = Target.add
    with closing(sqlite3.connect(old / LOG_NAME)) as connection:
        (head,) = connection.execute("SELECT max(position) FROM event").fetchone()
    count, at = 0, head if break_ == "more" else 30

    def add_wrongly(self: Target, row: Row, events: list[Converted]) -> None:
        nonlocal count
        count += 1
        if count == at:
            match break_:
                case "payload":
                    events = [events[0]._replace(payload=b"{}")]
                case "lost":
                    events = []
                case "request":
                    row = row._replace(request=bytes(32))
                case _:
                    events = [*events, events[0]._replace(id=bytes(16))]
        add(self, row, events)

    monkeypatch.setattr(Target, "add", add_wrongly)
    with pytest.raises(LogCorrupt, match="was thrown away"):
        write_anew(old)
    assert sorted(os.listdir(old.parent)) == ["old"]


@pytest.mark.parametrize("change", ["DELETE FROM blob_reference", "UPDATE blob_reference SET digest = randomblob(32)"])
def test_a_copy_that_names_other_blobs_is_thrown_away(old: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Negative control: what an event's blobs are is compared too; else a session would no longer reach them."""
    refer = Target.refer

    def refer_wrongly(self: Target) -> None:
        refer(self)
        triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'blob_reference'"
        for (name,) in self.connection.execute(triggers).fetchall():
            self.connection.execute(f"DROP TRIGGER {name}")
        self.connection.execute(change)

    monkeypatch.setattr(Target, "refer", refer_wrongly)
    with pytest.raises(LogCorrupt, match="does not name the blobs"):
        write_anew(old)


@pytest.mark.parametrize("point", sorted(REWRITE_POINTS))
def test_a_rewrite_killed_anywhere_is_begun_again(old: Path, point: str) -> None:
    """Until it is whole the new directory does not exist, and the next run throws away what there is and ends well."""
    new = old.parent / "new"
    before = contents(old)
    for arrival in (1, 5) if point == "mid_rewrite" else (1,):
        command = [sys.executable, "-m", "tests.migrations.rewriter", str(old), str(new)]
        killed = subprocess.run(
            [*command, point, str(arrival)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert new.exists() == (point == "named"), "it has its name before it is whole"
        if point != "named":
            building = old.parent / "new.rewriting"
            serve = [sys.executable, "-m", "chronicled.cli", "serve", "--data", str(building)]
            refused = subprocess.run(
                [*serve, "--socket", str(old.parent / "s")], capture_output=True, text=True, timeout=60, check=False
            )
            assert (refused.returncode, "not whole" in refused.stderr) == (4, True), refused.stderr
            assert not (building / LOG_NAME).exists() or point == "check_to_name"
            again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
            assert again.returncode == 0, again.stderr
        assert not verify_file(new / LOG_NAME).problems
        assert len(asyncio.run(read(new))) == 1 + ROUNDS + len(asyncio.run(read(old)))
        assert not (old.parent / "new.rewriting").exists()
        shutil.rmtree(new)
    assert contents(old).keys() == before.keys()
