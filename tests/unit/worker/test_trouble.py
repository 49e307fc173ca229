"""One worker, and trouble: a full disk, a newer claim, a link that breaks, a server that stays away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from tests.unit.worker.stream_log import StreamWorkerLog
from tests.unit.worker.world import WAIT_SECONDS, World, running

from chronicled.events.envelope import OBSERVATION, Draft, Event
from chronicled.events.errors import StorageFull
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.worker import dispatch, worker


class FullLog(StreamWorkerLog):
    """A log that has no room for the next observations."""

    refusals = 0

    async def release(self, key: SessionKey, fence: int, reason: str) -> None:
        """Refuse: there is no room."""
        raise StorageFull("No room.")

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Publish, or refuse an observation."""
        if self.refusals and any(draft.terminal for draft in drafts):
            self.refusals -= 1
            raise StorageFull("No room.")
        return await super().publish(key, fence, drafts)


class ForestalledLog(StreamWorkerLog):
    """A log in which somebody else ends one of several actions just before they are ended together."""

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Publish, after the other has."""
        if len(drafts) > 1 and drafts[0].terminal:
            await super().publish(key, fence, [msgspec.structs.replace(drafts[0], id=drafts[0].id[::-1])])
        return await super().publish(key, fence, drafts)


async def test_ends_that_come_together_are_one_each(tmp_path: Path) -> None:
    """What somebody else has ended meanwhile stays as it is; the others and their generation end all the same."""
    async with World.open(tmp_path) as world:
        log = ForestalledLog(world.store, world.stream, world.blobs, world.codec, "tester")
        async with running(world.worker(log)):
            await world.create()
            flying = [await world.submit("hang", lane=lane) for lane in "abc"]
            for action in flying:
                await world.until(partial(_ran, world, action))
            next(iter(world.host.alive.values())).die("killed")
            assert [(await world.ended(action)).outcome for action in flying] == ["killed"] * 3
            await world.until(lambda: _kind(world, "sandbox_removed", "s"))
            ends = [event.cause for event in await world.events("run") if event.category == OBSERVATION]
            assert sorted(map(str, ends)) == sorted(action.id for action in flying)
            assert len(await world.events("generation_ended")) == 1


async def test_a_result_outlives_a_full_disk(tmp_path: Path) -> None:
    """While there is no room the result is kept; the observation follows by itself, and the action ran once."""
    async with World.open(tmp_path) as world:
        log = FullLog(world.store, world.stream, world.blobs, world.codec, "tester")
        log.refusals = 3
        async with running(world.worker(log)):
            await world.create()
            action = await world.submit("say hello")
            assert (await world.ended(action)).output == "hello"
        assert (log.refusals, world.host.effects[action.id]) == (0, 1)


async def test_a_full_disk_does_not_spoil_a_drain(tmp_path: Path) -> None:
    """A worker that cannot give its sessions back ends in order all the same; the next one claims them."""
    async with World.open(tmp_path) as world:
        worker = world.worker(FullLog(world.store, world.stream, world.blobs, world.codec, "tester"))
        async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await world.create()
            await world.ended(await world.submit())
            worker.drain()
        async with world.working():
            assert (await world.ended(await world.submit())).outcome == "ok"


async def test_a_newer_claim_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose session was claimed by another publishes nothing more and does not claim it back."""
    # Whoever claimed it back would have done it by the time of the look at the claims.
    monkeypatch.setattr(worker, "RETRY_SECONDS_MIN", 0.0)
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        await world.ended(await world.submit())
        taken = await world.log.claim(SessionKey("default", "s"))
        action = await world.submit("ok")
        await world.until(lambda: _ran(world, action))
        other = await world.create("other")
        await world.ended(await world.submit("ok", other.session))
        claims = [event for event in await world.events("session_claimed") if event.session == "s"]
        assert claims[-1].position == taken.fence
        assert await world.store.terminal("default", action.id) is None


async def test_a_broken_link_is_mended(tmp_path: Path) -> None:
    """The server dials again: what runs is found again, what it never read is sent again, nothing runs twice."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        flying = await world.submit("talk hello")
        await world.until(lambda: _ran(world, flying))
        (server,) = world.host.alive.values()
        assert server.link is not None
        server.link.close()
        beside = await world.submit("ok", lane="b")
        assert (await world.ended(flying)).output == "hello"
        assert (await world.ended(beside)).outcome == "ok"
        assert world.host.effects == {flying.id: 1, beside.id: 1}


async def test_a_spool_is_not_read_for_what_runs_or_was_never_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it blocks the event loop: at a reconnection it is read only where a result may stand in it."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        flying, queued = await world.submit("hang"), await world.submit()
        await world.until(lambda: _ran(world, flying))
        (server,) = world.host.alive.values()
        with monkeypatch.context() as patch:
            patch.setattr(dispatch, "spooled_results", _not_to_be_read)
            before = server.link
            assert before is not None
            before.close()

            async def mended() -> bool:
                return server.link is not None and server.link is not before

            await world.until(mended)
            await world.ask(flying)
            assert (await world.ended(flying)).outcome == "cancelled"
        assert (await world.ended(queued)).outcome == "ok"


def _not_to_be_read(path: str) -> dict[str, frames.Result]:
    pytest.fail(f"{path} was read")


async def test_a_server_that_stays_away_is_put_down(tmp_path: Path) -> None:
    """Alive but out of reach for too long: the generation is ended first, then its action is `sandbox_lost`."""
    async with World.open(tmp_path) as world, world.working(unreachable_seconds=0.05):
        await world.create()
        flying = await world.submit("hang")
        await world.until(lambda: _ran(world, flying))
        (server,) = world.host.alive.values()
        server.main.cancel()
        assert server.link is not None
        server.link.close()
        assert (await world.ended(flying)).outcome == "sandbox_lost"
        assert not world.host.alive


async def test_a_result_of_what_was_never_sent_is_ignored(tmp_path: Path) -> None:
    """A server cannot end an action that was not sent to it."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        flying, queued = await world.submit("hang"), await world.submit("ok")
        await world.until(lambda: _ran(world, flying))
        (server,) = world.host.alive.values()
        assert server.link is not None
        server.link.send(frames.Result(action=queued.id, outcome=Outcome.FAILED, effects=Effects.COMPLETE))
        await world.ask(flying)
        assert (await world.ended(queued)).outcome == "ok"


async def test_leftovers_of_a_burial_are_cleared_at_the_next_start(tmp_path: Path) -> None:
    """A spool of a generation that the log has ended is removed; nothing else is."""
    async with World.open(tmp_path) as world:
        os.mkdir(world.directories.generation_spool(world.ids.new()))
        async with world.working():
            await world.create()
            await world.ended(await world.submit())
            generation = (await world.events("generation_started"))[0]
            await world.until(lambda: _spools_are(world, {world.codec.decode(generation).generation}))


async def test_a_half_started_sandbox_is_cleared_up_and_no_other(tmp_path: Path) -> None:
    """What a worker left half-started is removed before all sessions are claimed; what runs in the others lives on."""
    async with World.open(tmp_path) as world:
        await world.create("half")
        async with world.working():
            await world.create("live")
            flying = await world.submit("hang", "live")
            await world.until(lambda: _ran(world, flying))
        await world.request_sandbox("half", world.ids.new())
        async with world.working(claims_max=1):
            await world.until(lambda: _kind(world, "sandbox_removed", "half"))
            await world.ask(flying)
            assert (await world.ended(flying)).outcome == "cancelled"
            assert not await world.events("generation_ended")


async def _spools_are(world: World, generations: set[str]) -> bool:
    return set(os.listdir(world.directories.spool)) == generations


async def _kind(world: World, kind: str, session: str) -> bool:
    return any(event.session == session for event in await world.events(kind))


async def _ran(world: World, action: Event) -> bool:
    return action.id in world.host.effects


async def test_a_sweep_that_fails_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a runtime meets when it looks around is for its log: the sessions go on, and it looks again."""
    looks = 0

    async def fail(_known: object, _head: int) -> list[str]:
        nonlocal looks
        looks += 1
        raise KeyError("Id")

    async with World.open(tmp_path) as world:
        monkeypatch.setattr(world.host, "sweep", fail)
        async with world.working(sweep_seconds=0.5):
            await world.create()
            action = await world.submit("hang")

            async def looked_again() -> bool:
                return looks > 1

            await world.until(looked_again)
            await world.ask(action)
            assert (await world.ended(action)).outcome == "cancelled"
