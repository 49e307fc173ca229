"""What the writer takes at once, has waiting, and remembers, is bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.storage.gated import MAKER, append, many, writing

from chronicled.events.errors import ActionEnded, Overloaded
from chronicled.events.limits import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, QUEUE_BYTES_MAX
from chronicled.events.store import Append, Appended
from chronicled.storage import assembly, sqlite_medium
from chronicled.storage import writer as writer_module
from chronicled.storage.medium import Batch
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.writer import HALVED_MIN


@pytest.mark.parametrize(
    ("count", "drafts", "size"), [(3000, 1, 10), (300, 7, 10), (60, 1, 100_000), (40, 3, 100_000), (25, 5, 100_000)]
)
async def test_a_batch_is_bounded(count: int, drafts: int, size: int) -> None:
    """However many wait, a commit has at most 512 events and 1 MiB of payload, and takes nearly as many as it may."""
    async with writing() as (writer, medium):
        first = append(writer, Append((MAKER.action("s"),)))
        await medium.next_write()
        requests = [Append(tuple(MAKER.action("s", "x" * size) for _ in range(drafts))) for _ in range(count)]
        tasks = [append(writer, request) for request in requests]
        batches: list[Batch] = []
        while sum(len(batch.rows) for batch in batches) < count * drafts:
            medium.let_through()
            batches.append(await medium.next_write())
        medium.let_through()
        await asyncio.gather(first, *tasks)
        for batch in batches:
            assert len(batch.rows) <= BATCH_EVENTS_MAX
            assert sum(len(draft.payload) for draft in batch.events) <= BATCH_BYTES_MAX
        fitting = min(BATCH_EVENTS_MAX // drafts, BATCH_BYTES_MAX // (drafts * (size + 20))) * drafts
        assert max(len(batch.rows) for batch in batches) == fitting
        assert len(batches) <= 2 + 2 * count * drafts // fitting


async def test_what_waits_is_bounded_in_bytes_and_makes_room_again() -> None:
    """At most 16 MiB wait; more are refused at once, and as soon as those are written others may wait, for ever."""
    big = "x" * 700_000
    async with writing() as (writer, medium):
        for turn in range(3):
            medium.gated = True
            tasks = [append(writer, Append((MAKER.action("s", big),))) for _ in range(40)]
            await medium.next_write()
            refused = [task for task in tasks if task.done()]
            assert len(refused) == 40 - QUEUE_BYTES_MAX // len(big), turn
            medium.gated = False
            medium.let_through()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {Appended, Overloaded}
            assert sum(isinstance(result, Overloaded) for result in results) == len(refused)


@pytest.mark.parametrize("count", [3, 2 * HALVED_MIN, 2 * BATCH_EVENTS_MAX])
async def test_what_is_cancelled_before_its_batch_is_taken_is_not_written(count: int) -> None:
    """Who stops waiting while another batch is written has written nothing; the others are written without a gap."""
    async with writing() as (writer, medium):
        first = append(writer, Append((MAKER.action("s"),)))
        await medium.next_write()
        tasks = many(writer, count)
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.sleep(0)
        medium.gated = False
        medium.let_through()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)
        written = [result.events[0].position for result in results if isinstance(result, Appended)]
        assert written == list(range(2, 3 + count // 2))
        assert writer.log.head == len(medium.rows) == 2 + count // 2


async def test_what_is_remembered_is_bounded_and_what_was_forgotten_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With room for two of each, sessions and open actions beyond those are judged by what the medium knows."""
    monkeypatch.setattr(writer_module, "STATES_MAX", 2)
    monkeypatch.setattr(writer_module, "UNENDED_MAX", 2)
    async with writing() as (writer, medium):
        medium.gated = False
        names = [f"n{number}" for number in range(6)]
        actions = {name: MAKER.action(name) for name in names}
        for name in names:
            await writer.append(MAKER.create(name))
        for name in names:
            await writer.append(Append((actions[name],), expected_sequence=-1))
        for name in names:
            await writer.append(Append((MAKER.terminal(name, actions[name].id),)))
        for name in names:
            with pytest.raises(ActionEnded):
                await writer.append(Append((MAKER.terminal(name, actions[name].id),)))
            await writer.append(Append((MAKER.action(name),), expected_sequence=1))
        kept: list[int] = [len(writer._states), len(writer._unended)]  # pyright: ignore[reportPrivateUsage] - no other view
        assert max(kept) <= 2
        assert [row.position for row in medium.rows] == list(range(1, 2 + 4 * len(names)))


async def test_labels_in_memory_are_bounded_and_forgotten_ones_are_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for three of them, and two loaded at a start, each event still has its own lane, kind and source."""
    monkeypatch.setattr(assembly, "LABELS_MAX", 3)
    monkeypatch.setattr(sqlite_medium, "LABELS_LOADED", 2)
    lanes: list[str] = []
    path = tmp_path / LOG_NAME
    for turn in range(4):
        async with await SqliteStore.open(path) as store:
            if turn == 0:
                await store.append(MAKER.create("s"))
            for lane in ("a", "b", "c", "d", "a", "e"):
                await store.append(Append((MAKER.action("s", lane=lane), MAKER.action("s", lane=f"{lane}{turn}"))))
                lanes += [lane, f"{lane}{turn}"]
                held: int = len(store._writer.log.labels)  # pyright: ignore[reportPrivateUsage] - no other view
                assert held <= 3 + 2
            assert [event.lane for event in (await store.read(1, 1000)).events] == lanes
            assert not await store.verify()
