"""What projections promise: current with each commit, the same after any start as a fold from the beginning."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from tests.unit.projections.fixtures import CODEC, IDS, Writer, everything, facts, fresh_folds

from chronicled.events.codec import Codec
from chronicled.events.envelope import Event
from chronicled.events.errors import ActionNotFound, LogCorrupt, Unavailable
from chronicled.events.kind import Payload, TerminalPayload, action, observation
from chronicled.events.registry import builtin_registry
from chronicled.storage.memory import MemoryStore
from chronicled.storage.projections import Projections, SessionSummary, action_status, file, open_projections


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    """Yield an empty log."""
    store = await MemoryStore.open()
    yield store
    await store.aclose()


async def sessions(projections: Projections, tenant: str = "default") -> list[SessionSummary]:
    """Return all sessions of the tenant."""
    found, at_end = await projections.page(tenant, 0, 1000)
    assert at_end
    return found


async def test_an_acked_event_is_seen_at_once(store: MemoryStore) -> None:
    """Whoever has been acked finds the fold and the list as of that commit, saved or not."""
    async with open_projections(None, store, CODEC, save_seconds=3600) as projections:
        writer = Writer(store)
        await writer.create(labels={"team": "a"})
        first, second = await writer.run(), await writer.run()
        other = await writer.run(lane="side")
        fold = projections.find("default", "s")
        assert fold is not None
        assert [fold.status(each.id) for each in (first, second, other)] == ["running", "queued", "running"]
        [summary] = await sessions(projections)
        assert (summary.session, summary.labels, summary.open_actions) == ("s", {"team": "a"}, 3)
        assert (summary.closed, summary.position) == (False, other.position)
        await writer.end(first)
        assert fold.status(second.id) == "running"
        assert (await sessions(projections))[0].open_actions == 2
        assert await projections.session("default", "s") == (await sessions(projections))[0]


async def test_a_start_folds_only_the_tail(store: MemoryStore, tmp_path: Path) -> None:
    """After an orderly end nothing is read from the log; after a crash only what stands behind the checkpoint."""
    writer, path = Writer(store), tmp_path / "projections.sqlite"
    async with open_projections(path, store, CODEC) as projections:
        await writer.create()
        opened = [await writer.run() for _ in range(50)]
        await writer.end(opened[0])
    async with open_projections(path, store, CODEC) as projections:
        assert projections.events_folded == 0
        assert fact_list(projections) == await expected(store)
    await writer.end(opened[1])
    await writer.cancel(opened[5])
    async with open_projections(path, store, CODEC) as projections:
        assert projections.events_folded == 2
        assert fact_list(projections) == await expected(store)


def fact_list(projections: Projections) -> list[object]:
    """Return the facts of every session that is not over."""
    found = [projections.find(key.tenant, key.session) for key in projections.unfinished()]
    return [facts(fold) for fold in found if fold is not None]


async def expected(store: MemoryStore) -> list[object]:
    """Return the same from a fold of the whole log."""
    return [facts(fold) for fold in fresh_folds(await everything(store)).values()]


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "format", "missing", "table", "held", "row"])
async def test_a_damaged_file_is_made_again_from_the_log(store: MemoryStore, tmp_path: Path, damage: str) -> None:
    """Whatever happened to the file, the next start gives what the log says."""
    writer, path = Writer(store), tmp_path / "projections.sqlite"
    async with open_projections(path, store, CODEC) as projections:
        await writer.create()
        for _ in range(20):
            await writer.run("x" * 1000)
        before = await sessions(projections)
    spoil(path, damage)
    async with open_projections(path, store, CODEC) as projections:
        assert projections.events_folded > 0
        assert fact_list(projections) == await expected(store)
        assert await sessions(projections) == before
    async with open_projections(path, store, CODEC) as projections:
        assert projections.events_folded == 0


def spoil(path: Path, damage: str) -> None:
    """Damage the file in one of the ways that happen."""
    if damage == "garbage":
        path.write_bytes(os.urandom(8192))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "missing":
        path.unlink()
    else:
        connection = sqlite3.connect(path)
        statements = {
            "format": "PRAGMA user_version = 99",
            "table": "DROP TABLE held_event",
            "held": "UPDATE held_event SET event = x'00'",
            "row": "UPDATE session SET row = x'C1'",
        }
        connection.execute(statements[damage])
        if damage == "table":
            connection.execute("CREATE TABLE held_event (other TEXT)")
        connection.commit()
        connection.close()


async def test_rows_of_another_log_are_thrown_away(tmp_path: Path) -> None:
    """Another incarnation, a checkpoint beyond the head, and another log of the same name all mean: fold again."""
    path = tmp_path / "projections.sqlite"
    stores = [await MemoryStore.open() for _ in range(2)]
    try:
        async with open_projections(path, stores[0], CODEC):
            for number in range(5):
                await Writer(stores[0], f"old{number}").create()
        await Writer(stores[1], "new").create()
        async with open_projections(path, stores[1], CODEC) as projections:
            assert [each.session for each in await sessions(projections)] == ["new"]
            assert projections.events_folded == 1
        change_checkpoint(path, position=99)
        async with open_projections(path, stores[1], CODEC) as projections:
            assert projections.events_folded == 1
        changes: tuple[dict[str, object], ...] = ({"leaf": "00" * 32}, {"incarnation": "other"}, {"version": 99})
        for change in changes:
            change_checkpoint(path, **change)
            async with open_projections(path, stores[1], CODEC) as projections:
                assert projections.events_folded == 1, change
                assert [each.session for each in await sessions(projections)] == ["new"]
        async with open_projections(path, stores[1], CODEC) as projections:
            assert projections.events_folded == 0
    finally:
        for store in stores:
            await store.aclose()


async def test_a_gap_in_what_is_told_is_corruption(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was told twice is passed over; what comes after something that was not told is folded by nobody."""
    told: list[Callable[[tuple[Event, ...]], None]] = []
    listen = store.listen

    def listening(listener: Callable[[tuple[Event, ...]], None]) -> Callable[[], None]:
        told.append(listener)
        return listen(listener)

    monkeypatch.setattr(store, "listen", listening)
    async with open_projections(None, store, CODEC, save_seconds=3600):
        await Writer(store).create()
        (event,) = (await store.read(0, 1)).events
        (listener,) = told
        listener((event,))
        with pytest.raises(LogCorrupt, match="gap"):
            listener((msgspec.structs.replace(event, position=event.position + 2),))


def change_checkpoint(path: Path, **values: object) -> None:
    """Change the checkpoints behind the engine's back."""
    connection = sqlite3.connect(path)
    for column, value in values.items():
        connection.execute(f"UPDATE checkpoint SET {column} = ?", (value,))
    connection.commit()
    connection.close()


async def test_only_the_projection_of_another_version_is_folded_again(store: MemoryStore, tmp_path: Path) -> None:
    """A registry with another runnable kind folds the open work again, and an action of that kind is open then."""
    writer, path = Writer(store), tmp_path / "projections.sqlite"
    async with open_projections(path, store, CODEC):
        await writer.create()
        await writer.run()

    class Probe(Payload, frozen=True, kw_only=True):
        pass

    class Probed(TerminalPayload, frozen=True, kw_only=True):
        pass

    registry = builtin_registry()
    registry.register(action("acme.probe", Probe, runnable=True))
    registry.register(observation("acme.probe", Probed, terminal=True))
    codec = Codec(registry)
    await writer.run()
    draft = codec.draft("action", "acme.probe", Probe(), tenant="default", session="s", id=IDS.new())
    await writer.append(draft)
    async with open_projections(path, store, CODEC) as projections:
        fold = projections.find("default", "s")
        assert fold is not None
        assert fold.find(draft.id) is None
    async with open_projections(path, store, codec) as projections:
        fold = projections.find("default", "s")
        assert fold is not None
        assert fold.find(draft.id) is not None
        assert (await sessions(projections))[0].open_actions == 3


async def test_sessions_that_are_over_need_no_memory(store: MemoryStore, tmp_path: Path) -> None:
    """A closed session without sandbox and open actions lives on disk alone, and is listed and shown all the same."""
    async with open_projections(tmp_path / "p.sqlite", store, CODEC, save_seconds=0) as projections:
        for number in range(10):
            writer = Writer(store, f"s{number}")
            await writer.create()
            await writer.sandbox("x")
            opened = await writer.run()
            await writer.close()
            assert projections.find("default", f"s{number}") is not None
            await writer.end(opened)
            await writer.removed("x")
        with anyio.fail_after(60):
            while any(projections.find("default", f"s{number}") for number in range(10)):
                await anyio.lowlevel.checkpoint()
        assert projections.unfinished() == []
        assert len(await sessions(projections)) == 10
        late = await Writer(store, "s3").claim()
        summary = await projections.session("default", "s3")
        assert summary is not None
        assert (summary.fence, summary.position) == (late.position, late.position)
        assert summary.closed
    async with open_projections(tmp_path / "p.sqlite", store, CODEC) as projections:
        assert projections.find("default", "s3") is None
        assert (await sessions(projections))[3] == summary


async def test_pages_are_in_order_of_creation_and_of_one_tenant(store: MemoryStore, tmp_path: Path) -> None:
    """Paging by the position of creation gives every session of the tenant once, whether saved or not."""
    async with open_projections(tmp_path / "p.sqlite", store, CODEC, save_seconds=3600) as projections:
        for number in range(25):
            await Writer(store, f"s{number}", "a" if number % 5 else "b").create()
            if number == 12:
                await projections.save()
        found: list[SessionSummary] = []
        after, at_end = 0, False
        while not at_end:
            some, at_end = await projections.page("a", after, 3)
            assert len(some) <= 3
            found += some
            after = found[-1].created
        assert [each.session for each in found] == [f"s{number}" for number in range(25) if number % 5]
        assert [each.session for each in await sessions(projections, "b")] == [f"s{n}" for n in range(0, 25, 5)]
        assert await sessions(projections, "c") == []
        assert await projections.session("c", "s1") is None


async def test_the_daemons_own_events_make_no_session(store: MemoryStore) -> None:
    """Tenants with a leading underscore are the daemon's and appear nowhere."""
    async with open_projections(None, store, CODEC) as projections:
        await Writer(store, "daemon", "_system").create()
        assert projections.unfinished() == []
        assert await sessions(projections, "_system") == []
        assert projections.position == 1


async def execute(projections: Projections, statement: str) -> None:
    """Run a statement on the engine's own connection."""

    def job(connection: sqlite3.Connection) -> None:
        connection.execute(statement).fetchall()

    await projections._file.run(job)  # pyright: ignore[reportPrivateUsage] -- damage has to be done from inside


async def test_a_full_disk_stops_no_fold(store: MemoryStore, tmp_path: Path) -> None:
    """While rows cannot be saved, memory goes on and says why; once they can, they are."""
    path = tmp_path / "p.sqlite"
    async with open_projections(path, store, CODEC, save_seconds=3600) as projections:
        await Writer(store, "first").create()
        await projections.save()
        await execute(projections, "PRAGMA max_page_count = 1")
        for number in range(200):
            await Writer(store, f"s{number}").create(labels={"x": "y" * 1000})
        await projections.save()
        assert projections.failure is not None
        assert "full" in projections.failure
        assert len(projections.unfinished()) == 201
        assert len(await sessions(projections)) == 201
        await execute(projections, "PRAGMA max_page_count = 100000")
        await Writer(store, "last").create()
        await projections.save()
        assert projections.failure is None
    async with open_projections(path, store, CODEC) as projections:
        assert projections.events_folded == 0
        assert len(projections.unfinished()) == 202


async def test_a_start_without_room_for_rows_keeps_them_in_memory(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk folds are made in memory, and the next start with room makes the rows."""
    path = tmp_path / "p.sqlite"
    await Writer(store).create()
    clear = file._clear  # pyright: ignore[reportPrivateUsage] -- the disk has to fail inside

    def refuse(connection: sqlite3.Connection, projection: Any) -> None:
        if connection.execute("PRAGMA database_list").fetchone()[2]:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        clear(connection, projection)

    with monkeypatch.context() as patch:
        patch.setattr(file, "_clear", refuse)
        async with open_projections(path, store, CODEC) as projections:
            assert len(projections.unfinished()) == 1
            assert len(await sessions(projections)) == 1
    async with open_projections(path, store, CODEC) as projections:
        assert len(projections.unfinished()) == 1


async def test_a_file_of_this_format_is_opened_without_a_write(store: MemoryStore, tmp_path: Path) -> None:
    """Nothing is written to open it, so that a start on a full disk succeeds: here another writer holds it."""
    path = tmp_path / "p.sqlite"
    async with open_projections(path, store, CODEC):
        await Writer(store).create()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_projections(path, store, CODEC, save_seconds=3600) as projections:
            other.execute("ROLLBACK")
            assert len(projections.unfinished()) == 1


async def test_a_file_that_goes_bad_is_told_and_made_again(store: MemoryStore, tmp_path: Path) -> None:
    """When rows cannot be read, a list is `Unavailable`, folds go on, and the next start has everything."""
    path = tmp_path / "p.sqlite"
    async with open_projections(path, store, CODEC, save_seconds=3600) as projections:
        await Writer(store).create()
        await projections.save()
        await execute(projections, "DROP TABLE session")
        with pytest.raises(Unavailable, match="restart"):
            await projections.page("default", 0, 10)
        await Writer(store, "t").create()
        assert len(projections.unfinished()) == 2
    async with open_projections(path, store, CODEC) as projections:
        assert len(await sessions(projections)) == 2


async def test_the_status_of_an_action_is_a_fold(store: MemoryStore) -> None:
    """`recorded` for what never runs, `running` for the head of a lane, `queued` behind it, then the outcome."""
    async with AsyncExitStack() as stack:
        projections = await stack.enter_async_context(open_projections(None, store, CODEC))
        writer = Writer(store)
        await writer.create()
        message, first, second = await writer.message(), await writer.run(), await writer.run()

        async def status(id: str) -> str:
            return (await action_status(store, projections, CODEC, "default", "s", id)).status

        assert [await status(each.id) for each in (message, first, second)] == ["recorded", "running", "queued"]
        end = await writer.end(first)
        shown = await action_status(store, projections, CODEC, "default", "s", first.id)
        assert (shown.status, shown.observation) == ("ok", end)
        assert await status(second.id) == "running"
        for session, id in (("other", first.id), ("s", end.id), ("s", IDS.new())):
            with pytest.raises(ActionNotFound):
                await action_status(store, projections, CODEC, "default", session, id)
