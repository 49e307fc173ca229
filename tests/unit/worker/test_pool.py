"""The warm pool and standing still, with scripted sandboxes: who gets what, and what becomes of the rest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker.sandboxes import Server
from tests.unit.worker.world import StandingClock, World

from chronicled.events.envelope import Event
from chronicled.events.kinds.lifecycle import (
    GenerationStarted,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    SandboxPaused,
    SandboxResumed,
)
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.worker import frost
from chronicled.runtimes.worker.settings import WarmSettings
from chronicled.runtimes.worker.worker import Worker

WARM = (WarmSettings(runtime="process", count=2),)


async def told(world: World, kind: str, session: str = "s") -> list[Any]:
    """Return the payloads of the session's events of a kind."""
    page = await world.store.read(0, 1000)
    return [world.codec.decode(event) for event in page.events if (event.session, event.kind) == (session, kind)]


async def ask(world: World, kind: str, payload: Any) -> Event:
    """Ask something of the session `s`."""
    return await world.ask_session(kind, payload)


async def test_a_session_takes_a_warm_sandbox_and_the_pool_fills_up_again(tmp_path: Path) -> None:
    """The first action of a plain session runs in a sandbox that was there before it was asked for."""
    async with World.open(tmp_path) as world, world.working(warm=WARM) as worker:
        await world.until(lambda: _warm(worker, 2))
        before = set(world.host.alive)
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (started,) = await told(world, "generation_started")
        assert isinstance(started, GenerationStarted)
        assert started.warm
        assert started.sandbox in before
        await world.until(lambda: _alive(world, 3))
        assert len(before & set(world.host.alive)) == 2


async def test_a_session_that_asks_for_more_gets_a_sandbox_of_its_own(tmp_path: Path) -> None:
    """A limit that a warm sandbox was not made with is never dropped for speed."""
    async with World.open(tmp_path) as world, world.working(warm=WARM):
        await world.until(lambda: _alive(world, 2))
        before = set(world.host.alive)
        await world.create(sandbox=SandboxRequest(memory_bytes=1 << 28))
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (started,) = await told(world, "generation_started")
        assert not started.warm
        assert started.sandbox not in before


async def test_what_waited_when_the_worker_died_is_swept_by_the_next(tmp_path: Path) -> None:
    """Warm sandboxes belong to nobody: after a crash none of the old ones is left, and nothing of the log is lost."""
    async with World.open(tmp_path) as world:
        async with world.working(warm=WARM):
            await world.until(lambda: _alive(world, 2))
            left = dict(world.host.alive)
            servers = list(left.values())
        for server in servers:  # as if they had outlived the crash
            assert server.reason
        async with world.working():
            await world.create()
            assert (await world.ended(await world.submit("ok"))).outcome == "ok"
            assert not set(left) & set(world.host.alive)


async def test_a_warm_sandbox_that_dies_is_replaced(tmp_path: Path) -> None:
    """The pool does not keep what is dead, and gives it to nobody."""
    async with World.open(tmp_path) as world, world.working(warm=WARM[:1]):
        await world.until(lambda: _alive(world, 2))
        dead = next(iter(world.host.alive))
        world.host.alive[dead].die("server-signal-9")
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (started,) = await told(world, "generation_started")
        assert started.sandbox != dead


async def test_a_pause_waits_for_what_runs_and_an_action_ends_it(tmp_path: Path) -> None:
    """The sandbox stands still only once no action is open; the next action finds it as it was."""
    async with World.open(tmp_path) as world, world.working():
        world.host.can_pause = True
        await world.create()
        running = await world.submit("slow 30")
        await ask(world, "pause_requested", PauseRequested())
        assert (await world.ended(running)).outcome == "ok"
        await world.until(lambda: _told(world, "sandbox_paused"))
        paused = await told(world, "sandbox_paused")
        assert [type(each) for each in paused] == [SandboxPaused]
        (server,) = world.host.alive.values()
        assert server.frozen
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        assert not server.frozen
        assert [type(each) for each in await told(world, "sandbox_resumed")] == [SandboxResumed]
        assert len(await told(world, "generation_started")) == 1


@pytest.mark.parametrize("asked", ["pause", "resume"])
async def test_a_pause_outlives_the_worker_and_ends_when_it_is_asked(tmp_path: Path, asked: str) -> None:
    """A worker that takes over goes on from what the log says: standing still, or going on."""
    async with World.open(tmp_path) as world:
        world.host.can_pause = True
        async with world.working():
            await world.create()
            assert (await world.ended(await world.submit("ok"))).outcome == "ok"
            await ask(world, "pause_requested", PauseRequested())
            await world.until(lambda: _told(world, "sandbox_paused"))
        (server,) = world.host.alive.values()
        if asked == "resume":
            await ask(world, "resume_requested", ResumeRequested())
        async with world.working():
            if asked == "resume":
                await world.until(lambda: _told(world, "sandbox_resumed"))
            assert (await world.ended(await world.submit("ok"))).outcome == "ok"
            assert not server.frozen
            assert len(await told(world, "generation_started")) == 1
            assert len(await told(world, "sandbox_resumed")) == 1


async def test_a_strangers_pause_is_told_and_ended(tmp_path: Path) -> None:
    """Nobody of ours has asked for it: the log says from when to when it stood still, and what waited goes on."""
    async with World.open(tmp_path) as world, world.working():
        world.host.can_pause = True
        await world.create()
        running = await world.submit("hang")
        await world.until(lambda: _started(world, running))
        (server,) = world.host.alive.values()
        for count in (1, 2):
            server.unseen = count - 1
            server.move_by_a_stranger()
            await world.until(partial(_count, world, "sandbox_resumed", count))
            assert not server.frozen
            assert len(await told(world, "sandbox_paused")) == count
        await world.ask(running)
        assert (await world.ended(running)).outcome == "cancelled"
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        assert len(await told(world, "generation_started")) == 1


async def test_a_pause_of_our_own_is_no_strangers(tmp_path: Path) -> None:
    """The engine tells of the pause that the session asked for as well: it stays, and is told once."""
    async with World.open(tmp_path) as world, world.working():
        world.host.can_pause = True
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (server,) = world.host.alive.values()
        await ask(world, "pause_requested", PauseRequested())
        await world.until(lambda: _told(world, "sandbox_paused"))
        server.move_by_a_stranger()
        await world.until(lambda: _heard(server))
        assert server.frozen
        assert await told(world, "sandbox_resumed") == []
        assert len(await told(world, "sandbox_paused")) == 1
        # Nor may a stranger end it: what the session has stopped stands still, and the log says how it was meanwhile.
        server.move_by_a_stranger(frozen=False)
        await world.until(partial(_count, world, "sandbox_paused", 2))
        assert server.frozen
        assert len(await told(world, "sandbox_resumed")) == 1
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        assert not server.frozen


async def test_a_sandbox_that_dies_while_it_is_resumed_costs_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is not ended because the one before it could not be brought to go on."""
    monkeypatch.setattr(frost, "RETRY_SECONDS_MIN", 0.02)
    async with World.open(tmp_path) as world, world.working():
        world.host.can_pause = True
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (server,) = world.host.alive.values()
        server.stuck = True
        server.move_by_a_stranger()
        await world.until(lambda: _told(world, "sandbox_paused"))
        server.die("removed")
        await world.until(lambda: _told(world, "sandbox_removed"))
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        (server,) = world.host.alive.values()
        # Longer than all tries to resume the first one.
        await world.ended(await world.submit("slow 1000"))
        assert not server.reason
        assert len(await told(world, "generation_started")) == 2


async def test_a_restart_makes_a_new_generation_and_tells_what_was_lost(tmp_path: Path) -> None:
    """What runs ends `sandbox_lost`, what waits for the lost state `state_lost`, and the next action meets another."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        running, waiting = await world.submit("hang"), await world.submit("ok")
        await world.until(lambda: _started(world, running))
        await ask(world, "restart_requested", RestartRequested(reason="stuck"))
        assert (await world.ended(running)).outcome == "sandbox_lost"
        assert (await world.ended(waiting)).reason == "state_lost"
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        assert len(await told(world, "generation_started")) == 2
        (first, *_) = await told(world, "generation_ended")
        assert first.reason == "restart_requested"


async def test_an_idle_session_closes_by_itself_and_a_busy_one_does_not(tmp_path: Path) -> None:
    """The idle deadline counts from the last sign of life, and never runs while an action does."""
    clock = StandingClock()
    async with World.open(tmp_path) as world, world.working(clock=clock):
        await world.create("idle", idle_seconds=0.2)
        await world.create("busy", idle_seconds=0.2)
        hanging = await world.submit("hang", "busy")
        # It is busy before the deadline could pass.
        await world.until(lambda: _started(world, hanging))
        clock.go()
        await world.until(lambda: _told(world, "session_closed", "idle"))
        (closed,) = await told(world, "session_closed", "idle")
        assert closed.reason == "idle_deadline"
        assert await told(world, "session_closed", "busy") == []
        await world.ask(hanging)
        await world.ended(hanging)
        await world.until(lambda: _told(world, "session_closed", "busy"))


async def _warm(worker: Worker, count: int) -> bool:
    # One that is alive and has not said hello yet cannot be taken.
    return worker.warm == count


async def _alive(world: World, count: int) -> bool:
    return len(world.host.alive) == count


async def _count(world: World, kind: str, count: int) -> bool:
    return len(await told(world, kind)) == count


async def _heard(server: Server) -> bool:
    return not server.strange.is_set()


async def _told(world: World, kind: str, session: str = "s") -> bool:
    return bool(await told(world, kind, session))


async def _started(world: World, action: Event) -> bool:
    return action.id in world.host.started


async def test_a_drain_sees_the_end_of_a_closed_session_through(tmp_path: Path) -> None:
    """Of a session that was closed before the worker was asked to stop, nothing is left behind for the next one."""
    async with World.open(tmp_path) as world, world.working() as worker:
        await world.create()
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        await world.close()
        worker.drain()
        await world.until(lambda: _told(world, "sandbox_removed"))
        assert not world.host.alive
