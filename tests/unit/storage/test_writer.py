"""The writer judges one batch while the one before it is being written: what it may then tell, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from chronicled.events.clock import SystemClock
from chronicled.events.errors import SessionNotFound, StorageFull, StoreFailed
from chronicled.events.ids import SystemRandomness
from chronicled.events.store import Append, Appended
from chronicled.storage.medium import Batch, Collision, LogState
from chronicled.storage.memory import MemoryMedium
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.tree import Frontier
from chronicled.storage.writer import HALVED_MIN, LogWriter

MAKER = DraftMaker()


class GatedMedium(MemoryMedium):
    """A medium whose writes wait until they are let through, or made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = False
        self._batches: asyncio.Queue[Batch] = asyncio.Queue()
        self._outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()

    def let_through(self, failure: Exception | None = None) -> None:
        """End the next write, or the one that waits."""
        self._outcomes.put_nowait(failure)

    async def write(self, batch: Batch) -> None:
        """Wait, then write."""
        if self.gated:
            self._batches.put_nowait(batch)
            failure = await self._outcomes.get()
            if failure is not None:
                raise failure
        await super().write(batch)

    async def next_write(self) -> Batch:
        """Return the next batch that is given to be written."""
        async with asyncio.timeout(5):
            return await self._batches.get()


@asynccontextmanager
async def writing() -> AsyncGenerator[tuple[LogWriter, GatedMedium]]:
    """Give a writer with the session `s`, whose medium waits from now on."""
    medium = GatedMedium()
    writer = LogWriter(medium, LogState(0, 0, Frontier(), {}, 0, {}, 0, 0), SystemClock(), SystemRandomness())
    writer.start()
    await writer.append(MAKER.create("s"))
    medium.gated = True
    try:
        yield writer, medium
    finally:
        medium.gated = False
        medium.let_through()
        await writer.aclose()


def append(writer: LogWriter, request: Append) -> asyncio.Task[Appended]:
    """Begin to append."""
    return asyncio.create_task(writer.append(request))


def many(writer: LogWriter, count: int = 2 * HALVED_MIN) -> list[asyncio.Task[Appended]]:
    """Begin to append so much at once that it makes two batches."""
    return [append(writer, Append((MAKER.action("s"),))) for _ in range(count)]


async def test_the_second_half_is_judged_while_the_first_is_written() -> None:
    """Two batches come of one crowd; the second is written at once after the first, and nothing is acked before."""
    async with writing() as (writer, medium):
        tasks = many(writer)
        first = await medium.next_write()
        assert len(first.rows) == HALVED_MIN
        assert writer.log.head == 1
        assert not any(task.done() for task in tasks)
        medium.let_through()
        second = await medium.next_write()
        assert len(second.rows) == HALVED_MIN
        assert second.events[0].position == first.events[-1].position + 1
        await asyncio.gather(*tasks[:HALVED_MIN])
        assert writer.log.head == 1 + HALVED_MIN
        assert not any(task.done() for task in tasks[HALVED_MIN:])
        medium.let_through()
        positions = [done.events[0].position for done in await asyncio.gather(*tasks)]
        assert positions == list(range(2, 2 + 2 * HALVED_MIN))


async def test_what_was_judged_on_a_batch_that_found_no_room_is_judged_again() -> None:
    """A session whose creation did not fit on the disk is not there for the batch behind it."""
    async with writing() as (writer, medium):
        creates = [append(writer, MAKER.create(f"n{number}")) for number in range(HALVED_MIN)]
        uses = [append(writer, Append((MAKER.action(f"n{number}"),))) for number in range(HALVED_MIN)]
        await medium.next_write()
        medium.gated = False
        medium.let_through(StorageFull("full"))
        results = await asyncio.gather(*creates, *uses, return_exceptions=True)
        # Creations are lifecycle events of our own and may use the reserve; memory has none.
        assert {type(result) for result in results[:HALVED_MIN]} == {StorageFull}
        assert {type(result) for result in results[HALVED_MIN:]} <= {SessionNotFound, StorageFull}
        assert writer.log.head == 1
        again = await writer.append(MAKER.create("n0"))
        assert [event.position for event in again.events] == [2]


async def test_a_batch_behind_one_that_collided_follows_without_a_gap() -> None:
    """After a collision both batches are judged again: positions stay dense, and everything is acked once."""
    async with writing() as (writer, medium):
        tasks = many(writer)
        await medium.next_write()
        medium.gated = False
        medium.let_through(Collision("id"))
        positions = [done.events[0].position for done in await asyncio.gather(*tasks)]
        assert positions == list(range(2, 2 + 2 * HALVED_MIN))
        assert [row.position for row in medium.rows] == list(range(1, 2 + 2 * HALVED_MIN))
        assert writer.log.head == 1 + 2 * HALVED_MIN


@pytest.mark.parametrize("failing", [1, 2])
async def test_after_a_failed_write_nothing_more_is_acked(failing: int) -> None:
    """Neither the batch whose write failed nor the one judged on it is acked; earlier ones stay acked."""
    async with writing() as (writer, medium):
        tasks = many(writer)
        await medium.next_write()
        if failing == 2:
            medium.let_through()
            await medium.next_write()
        medium.let_through(StoreFailed("EIO"))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        acked = HALVED_MIN * (failing - 1)
        assert all(isinstance(result, Appended) for result in results[:acked])
        assert {type(result) for result in results[acked:]} == {StoreFailed}
        assert writer.failed
        assert writer.log.head == 1 + acked
        with pytest.raises(StoreFailed):
            await writer.append(Append((MAKER.action("s"),)))
