"""What comes before what between journal, sandbox, log and spool: an order that no crash may turn round."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.worker.sandboxes import Server
from tests.unit.worker.stream_log import StreamWorkerLog
from tests.unit.worker.world import World, running

from chronicled.events.envelope import OBSERVATION, Draft, Event
from chronicled.events.errors import StorageFull
from chronicled.events.kinds.lifecycle import InputSent
from chronicled.events.kinds.observations import RunObservation
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.store import Append, Page
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.action_server.frames import Cancel, Result
from chronicled.runtimes.action_server.spool import ResultSpool
from chronicled.runtimes.worker import journal
from chronicled.runtimes.worker.spool import spooled_results
from chronicled.storage.disk import SystemDisk


class FullJournalDisk(SystemDisk):
    """A disk on which the dispatch journal has no room for a while."""

    full = False
    refused = 0

    def write(self, descriptor: int, data: bytes) -> None:
        """Write, or refuse what is for the journal."""
        if self.full and os.readlink(f"/proc/self/fd/{descriptor}").endswith("/dispatch"):
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(descriptor, data)


async def test_nothing_is_sent_that_is_not_noted(tmp_path: Path) -> None:
    """What the journal has no room for does not reach the sandbox, however often it is tried; then it runs, once."""
    disk = FullJournalDisk()
    async with World.open(tmp_path) as world, running(world.worker(disk=disk)):
        await world.create()
        await world.ended(await world.submit())
        disk.full = True
        action = await world.submit()

        async def refused_twice() -> bool:
            return disk.refused > 1

        await world.until(refused_twice)
        assert action.id not in world.host.effects
        disk.full = False
        assert (await world.ended(action)).outcome == "ok"
        assert world.host.effects[action.id] == 1


class PatientLog(StreamWorkerLog):
    """A log that has no room for ends as long as it is `full`."""

    full = True
    refused = 0

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Publish, or refuse an end."""
        if self.full and any(draft.terminal for draft in drafts):
            self.refused += 1
            raise StorageFull("No room.")
        return await super().publish(key, fence, drafts)


async def test_a_result_is_settled_and_its_spool_freed_only_once_it_is_in_the_log(tmp_path: Path) -> None:
    """Until its observation is durable the server keeps the result, and the spool what was printed; then both go."""
    async with World.open(tmp_path) as world:
        log = PatientLog(world.store, world.stream, world.blobs, world.codec, "tester")
        async with running(world.worker(log)):
            await world.create()
            action = await world.submit("say hello")

            async def refused_twice() -> bool:
                return log.refused > 1

            def spools() -> list[Path]:
                return list(Path(world.directories.spool).glob(f"*/{action.id}.out"))

            await world.until(refused_twice)
            (server,) = world.host.alive.values()
            assert action.id not in server.settled
            assert [path.read_bytes() for path in spools()] == [b"hello"]
            log.full = False
            assert (await world.ended(action)).output == "hello"

            async def freed() -> bool:
                return action.id in server.settled and not spools()

            await world.until(freed)


async def test_what_was_typed_before_a_crash_is_not_typed_again(tmp_path: Path) -> None:
    """The worker after the one that passed on an input finds that noted: the command reads it once."""
    async with World.open(tmp_path) as world:
        async with world.working():
            await world.create()
            action = await world.submit("hang")
            await world.ask(action, "input_sent", InputSent(data="yes\n"))

            async def typed() -> bool:
                return len(world.host.requests[action.id]) == 1

            await world.until(typed)
        async with world.working():
            await world.ask(action, "input_sent", InputSent(data="no\n"))

            async def typed_more() -> bool:
                return len(world.host.requests[action.id]) > 1

            await world.until(typed_more)
            await world.ask(action)
            assert (await world.ended(action)).outcome == "cancelled"
        assert [request.data for request in world.host.requests[action.id]] == [b"yes\n", b"no\n"]


async def test_a_cancel_is_sent_again_over_each_link(tmp_path: Path) -> None:
    """A cancel that went down with its link reaches the server over the next one."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        action = await world.submit("hang")
        await world.until(lambda: _runs(world, action))
        (server,) = world.host.alive.values()
        before = server.link
        assert before is not None
        assert before.other is not None
        lost: list[Any] = []

        def lose(frame: Any) -> bool:
            lost.append(frame)
            return False

        before.other.on_send = lose
        await world.ask(action)

        async def sent() -> bool:
            return Cancel(action=action.id) in lost

        await world.until(sent)
        before.close()
        assert (await world.ended(action)).outcome == "cancelled"
        assert len(world.host.alive) == 1


class HeldLog(StreamWorkerLog):
    """A log of which the worker is told event by event, up to the position to which a test lets it hear."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._heard = sys.maxsize
        self._moved = asyncio.Event()

    def hear(self, position: int) -> None:
        """Tell the worker of all up to that position."""
        self._heard = position
        self._moved.set()

    @asynccontextmanager
    async def follow(self, after: int) -> AsyncGenerator[AsyncIterator[Page]]:
        """Follow; what is beyond waits."""
        async with super().follow(after) as pages:

            async def one_by_one() -> AsyncIterator[Page]:
                async for page in pages:
                    for event in page.events:
                        while event.position > self._heard:
                            self._moved.clear()
                            await self._moved.wait()
                        yield msgspec.structs.replace(page, events=(event,))

            yield one_by_one()


@pytest.mark.parametrize("command", ["slow 30", "die"])
async def test_what_has_ended_is_not_sent_again_before_the_worker_hears_of_it(tmp_path: Path, command: str) -> None:
    """Between the commit of an end and its fold nothing takes the action for one that was never sent.

    Neither where its sandbox lives, nor where that died over it: the next one would run it a second time.
    """
    async with World.open(tmp_path) as world:
        log = HeldLog(world.store, world.stream, world.blobs, world.codec, "tester")
        async with running(world.worker(log)):
            await world.create()
            await world.ended(await world.submit())
            log.hear(world.store.head)
            first = await world.submit(command, on_state_loss="run")
            behind = await world.submit(on_state_loss="run")
            (server,) = world.host.alive.values()
            log.hear(first.position)
            await world.ended(first)
            await world.until(lambda: _over(world, server, first))
            # Now it hears of the one behind, and not yet of the end of the first.
            log.hear(behind.position)
            await asyncio.sleep(0.02)
            assert world.host.dispatched.count(first.id) == 1
            log.hear(sys.maxsize)
            assert (await world.ended(behind)).outcome == "ok"
            assert [world.host.dispatched.count(each.id) for each in (first, behind)] == [1, 1]
            assert not await world.events("late_result")


async def _over(world: World, server: Server, action: Event) -> bool:
    return action.id in server.settled or await _there(world, "sandbox_removed")


async def _there(world: World, kind: str) -> bool:
    return bool(await world.events(kind))


class LateBirthLog(StreamWorkerLog):
    """A log that has no room for the start of a generation as long as it is `full`."""

    full = True
    refused = 0

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Publish, or refuse a start."""
        if self.full and any(draft.kind == "generation_started" for draft in drafts):
            self.refused += 1
            raise StorageFull("No room.")
        return await super().publish(key, fence, drafts)


async def test_nothing_is_sent_to_a_generation_that_is_not_in_the_log(tmp_path: Path) -> None:
    """Though its server has said hello: after a crash nobody would look for what ran in it."""
    async with World.open(tmp_path) as world:
        log = LateBirthLog(world.store, world.stream, world.blobs, world.codec, "tester")
        async with running(world.worker(log)):
            await world.create()
            action = await world.submit()

            async def refused_twice() -> bool:
                return log.refused > 1

            await world.until(refused_twice)
            # Whatever else makes the worker look at its lanes.
            beside = await world.submit(lane="b")
            await world.until(refused_twice)
            assert not world.host.dispatched
            log.full = False
            assert [(await world.ended(each)).outcome for each in (action, beside)] == ["ok", "ok"]


async def test_what_somebody_else_ends_does_not_go_on_and_its_result_is_late(tmp_path: Path) -> None:
    """Its command is cancelled, what comes of it is recorded as late, and the log has the one end."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        action = await world.submit("hang")
        await world.until(lambda: _runs(world, action))
        end = RunObservation(outcome=Outcome.UNKNOWN, effects=Effects.POSSIBLE)
        await world.store.append(
            Append(
                (
                    world.codec.draft(
                        OBSERVATION,
                        "run",
                        end,
                        tenant=action.tenant,
                        session=action.session,
                        id=world.ids.new(),
                        cause=action.id,
                    ),
                )
            )
        )
        await world.until(lambda: _there(world, "late_result"))
        (late,) = await world.events("late_result")
        assert (late.cause, world.codec.decode(late).outcome) == (action.id, "cancelled")
        assert (await world.ended(action)).outcome == "unknown"
        assert (await world.ended(await world.submit())).outcome == "ok"


class OvertakenLog(StreamWorkerLog):
    """A log in which somebody else ends an action just before its worker does."""

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Publish, after the other has."""
        for draft in drafts:
            if draft.terminal and await self.events.terminal(key.tenant, draft.cause or "") is None:
                await super().publish(key, fence, [msgspec.structs.replace(draft, id=self.ids.new())])
        return await super().publish(key, fence, drafts)


async def test_a_result_that_was_overtaken_is_late(tmp_path: Path) -> None:
    """Where the log has an end by the time that the result is made into one, the result is kept as late."""
    async with World.open(tmp_path) as world:
        log = OvertakenLog(world.store, world.stream, world.blobs, world.codec, "tester")
        async with running(world.worker(log)):
            await world.create()
            action = await world.submit("fail")
            await world.until(lambda: _there(world, "late_result"))
            (late,) = await world.events("late_result")
            assert (late.cause, world.codec.decode(late).outcome) == (action.id, "failed")
            assert len([event for event in await world.events("run") if event.cause == action.id]) == 1
            (server,) = world.host.alive.values()
            await world.until(lambda: _over(world, server, action))


async def test_a_drain_publishes_the_results_that_are_here(tmp_path: Path) -> None:
    """What has come from a sandbox when the drain begins is in the log before the session is given back."""
    async with World.open(tmp_path) as world:
        log = PatientLog(world.store, world.stream, world.blobs, world.codec, "tester")
        worker = world.worker(log)
        async with running(worker):
            await world.create()
            action = await world.submit("say hello")

            async def refused() -> bool:
                return log.refused > 0

            await world.until(refused)
            worker.drain()
            log.full = False
            await world.until(lambda: _there(world, "session_released"))
        end = await world.store.terminal(action.tenant, action.id)
        released = (await world.events("session_released"))[-1]
        assert end is not None
        assert end.position < released.position


async def _runs(world: World, action: Event) -> bool:
    return action.id in world.host.effects


def test_the_first_result_of_an_action_counts(tmp_path: Path) -> None:
    """What is in a spool a second time, after it may have been told, changes nothing."""
    path = tmp_path / "results"
    spool = ResultSpool(os.open(path, os.O_RDWR | os.O_CREAT))
    for outcome in (Outcome.OK, Outcome.FAILED):
        spool.append(Result(action="a", outcome=outcome, effects=Effects.COMPLETE))
    spool.close()
    assert {action: result.outcome for action, result in spooled_results(str(path)).items()} == {"a": Outcome.OK}


async def test_the_journal_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is forgotten: the journal of a generation holds what is under way, however much it has run."""
    monkeypatch.setattr(journal, "BYTES_MAX", 400)
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        for _ in range(40):
            await world.ended(await world.submit())
        assert os.stat(f"{world.directories.journal}/dispatch").st_size < 600
