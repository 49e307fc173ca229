"""The writer judges one batch while the one before it is being written: what it may then tell, and when."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.storage.gated import MAKER, append, many, writing

from chronicled.events.clock import SystemClock
from chronicled.events.errors import SessionNotFound, StorageFull, StoreFailed
from chronicled.events.store import Append, Appended
from chronicled.storage.medium import Collision
from chronicled.storage.writer import HALVED_MIN


class FallingClock(SystemClock):
    """A clock that somebody sets back a second each time it is read."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000

    def now_us(self) -> int:
        """Return an earlier time than before."""
        self.now -= 1_000_000
        return self.now


class CountedRandomness:
    """Bytes that are never the same twice, and that can be told."""

    def __init__(self) -> None:
        self.given = b""

    def bytes(self, count: int) -> bytes:
        """Return the next bytes."""
        start = len(self.given)
        self.given += b"".join(number.to_bytes(4, "big") for number in range(start // 4, (start + count) // 4))
        return self.given[start:]


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


async def test_a_batch_judged_on_one_that_found_no_room_leaves_no_gap() -> None:
    """What was judged on places that the refused batch would have had is judged again, on those that are there."""
    async with writing() as (writer, medium):
        tasks = many(writer)
        for _ in range(2):  # once as it was judged, and once alone
            await medium.next_write()
            medium.let_through(StorageFull("full"))
        await medium.next_write()
        medium.let_through()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results[:HALVED_MIN]} == {StorageFull}
        later = [result.events[0].position for result in results[HALVED_MIN:] if isinstance(result, Appended)]
        assert later == list(range(2, 2 + HALVED_MIN))
        assert [row.position for row in medium.rows] == list(range(1, 2 + HALVED_MIN))
        assert [row.sequence for row in medium.rows] == list(range(1 + HALVED_MIN))
        assert writer.log.head == 1 + HALVED_MIN


async def test_all_who_wait_are_told_that_the_log_has_failed() -> None:
    """Whoever waits in no batch yet gets the failure as well, at once: nobody is left waiting for ever."""
    async with writing() as (writer, medium):
        tasks = many(writer)
        await medium.next_write()
        await asyncio.sleep(0)
        tasks += many(writer)
        await asyncio.sleep(0)
        told: list[StoreFailed] = []
        writer.on_failure(told.append)
        medium.let_through(StoreFailed("EIO"))
        async with asyncio.timeout(60):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {StoreFailed}
        assert [error.detail for error in told] == ["EIO"]


async def test_times_never_fall_whatever_the_clock_says() -> None:
    """A clock that is set back leaves events with the time of those before them: order and times agree."""
    async with writing(clock=FallingClock()) as (writer, medium):
        medium.gated = False
        for _ in range(5):
            await writer.append(Append((MAKER.action("s"), MAKER.action("s"))))
        assert {row.time for row in medium.rows} == {1_700_000_000_000_000 - 1_000_000}


async def test_every_event_has_a_salt_of_its_own() -> None:
    """16 bytes of the randomness that was given, no two alike: a payload that was erased cannot be guessed at."""
    randomness = CountedRandomness()
    async with writing(randomness=randomness) as (writer, medium):
        medium.gated = False
        for count in (1, 2, 40):
            await writer.append(Append(tuple(MAKER.action("s") for _ in range(count))))
        await asyncio.gather(*many(writer))
        salts = [row.salt for row in medium.rows if row.salt is not None]
        assert len(set(salts)) == len(salts) == len(medium.rows)
        assert all(len(salt) == 16 and salt in randomness.given for salt in salts)
