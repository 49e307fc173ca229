"""One worker, scripted sandboxes: what becomes of an action."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from tests.unit.worker.sandboxes import ScriptedSandbox
from tests.unit.worker.world import StandingClock, World, running

from chronicled.events.clock import SystemClock
from chronicled.events.errors import InvalidRequest, SandboxStartFailed
from chronicled.events.kinds.actions import Browse
from chronicled.events.kinds.lifecycle import InputSent, InterruptRequested
from chronicled.runtimes.runtime import Handle, SandboxSpec
from chronicled.runtimes.worker import reunion


async def test_an_action_runs_and_its_outcome_is_told(tmp_path: Path) -> None:
    """A command that exits 0 ends `ok`, one that does not `failed`, each run once, in order."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        first, second = await world.submit("ok"), await world.submit("fail")
        assert (await world.ended(first)).outcome == "ok"
        assert (await world.ended(second)).outcome == "failed"
        assert world.host.effects == {first.id: 1, second.id: 1}
        assert world.host.started == [first.id, second.id]


async def test_an_action_costs_two_commits(tmp_path: Path) -> None:
    """Once the sandbox is there, an action adds exactly itself and its observation to the log."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        await world.ended(await world.submit())
        before = world.store.head
        await world.ended(await world.submit("say hello"))
        assert world.store.head == before + 2


async def test_lanes_run_side_by_side_and_each_in_order(tmp_path: Path) -> None:
    """A lane whose head hangs holds up its own queue and no other lane."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        hanging = await world.submit("hang", lane="a")
        behind = await world.submit("ok", lane="a")
        beside = await world.submit("ok", lane="b")
        assert (await world.ended(beside)).outcome == "ok"
        assert behind.id not in world.host.effects
        await world.ask(hanging)
        assert (await world.ended(hanging)).outcome == "cancelled"
        assert (await world.ended(behind)).outcome == "ok"


async def test_a_queued_action_is_cancelled_without_effects(tmp_path: Path) -> None:
    """A cancel of what waits for its turn ends it `cancelled`, effects `none`, and it never runs."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        hanging, queued = await world.submit("hang"), await world.submit("ok")
        await world.until(lambda: _started(world, hanging.id))
        await world.ask(queued)
        ended = await world.ended(queued)
        assert (ended.outcome, ended.effects) == ("cancelled", "none")
        await world.ask(hanging)
        assert (await world.ended(hanging)).effects == "possible"
        assert queued.id not in world.host.effects


async def test_a_deaf_server_is_put_down_when_a_cancel_is_not_answered(tmp_path: Path) -> None:
    """A cancel that the action server ignores ends with its generation: `cancelled`, and what queued is rejected."""
    async with World.open(tmp_path) as world, world.working(grace_seconds=0.05):
        await world.create()
        deaf = await world.submit("deaf")
        other = await world.submit("hang", lane="b")
        queued = await world.submit("ok")
        await world.until(lambda: _started(world, deaf.id, other.id))
        await world.ask(deaf)
        assert (await world.ended(deaf)).outcome == "cancelled"
        assert (await world.ended(other)).outcome == "sandbox_lost"
        assert (await world.ended(queued)).reason == "state_lost"


async def test_a_command_deadline_that_the_server_ignores_is_kept_by_the_worker(tmp_path: Path) -> None:
    """Past command deadline and grace the generation is ended, and the action says `timeout` by `command`."""
    async with World.open(tmp_path) as world, world.working(grace_seconds=0.05):
        await world.create()
        action = await world.submit("hang", timeout_seconds=0.05)
        ended = await world.ended(action)
        assert (ended.outcome, ended.deadline, ended.effects) == ("timeout", "command", "possible")


class LateClock(SystemClock):
    """A clock that was set back by an hour after the log was written."""

    def now_us(self) -> int:
        """Return the wall time of an hour ago."""
        return super().now_us() - 3_600_000_000


async def test_a_clock_that_was_set_back_makes_no_deadline_longer(tmp_path: Path) -> None:
    """Queue and life deadlines of what the log dates into the future are counted from when the worker sees it."""
    async with World.open(tmp_path) as world, running(world.worker(clock=LateClock())):
        await world.create()
        await world.submit("hang")
        assert (await world.ended(await world.submit("ok", queue_seconds=0.05))).deadline == "queue"
        await world.create("short", life_seconds=0.1)
        assert (await world.ended(await world.submit("hang", "short"))).deadline == "life"


async def test_a_queue_deadline_rejects(tmp_path: Path) -> None:
    """An action whose turn does not come in time ends `rejected` by the `queue` deadline."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        await world.submit("hang")
        ended = await world.ended(await world.submit("ok", queue_seconds=0.05))
        assert (ended.outcome, ended.reason, ended.deadline) == ("rejected", "queue_deadline", "queue")


async def test_a_dead_server_loses_its_action_and_the_queue_its_state(tmp_path: Path) -> None:
    """Running: `sandbox_lost`; queued: `rejected` for lost state, but `on_state_loss: run` runs in a new sandbox."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        dying, queued = await world.submit("die"), await world.submit("ok")
        brave = await world.submit("ok", on_state_loss="run")
        assert (await world.ended(dying)).outcome == "sandbox_lost"
        ended = await world.ended(queued)
        assert (ended.outcome, ended.reason, ended.effects) == ("rejected", "state_lost", "none")
        assert (await world.ended(brave)).outcome == "ok"
        later = await world.submit("ok")
        assert (await world.ended(later)).outcome == "ok"
        assert len(await world.events("generation_started")) == 2
        assert queued.id not in world.host.effects


@pytest.mark.parametrize(
    ("why", "outcome"), [("killed", "killed"), ("oom_killed", "oom_killed"), ("removed", "sandbox_lost")]
)
async def test_the_proven_end_of_a_sandbox_is_the_outcome(tmp_path: Path, why: str, outcome: str) -> None:
    """Who killed a sandbox, as its runtime proves, is said; who sees that sees the loss too, and may go on at once."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        hanging = await world.submit("hang")
        await world.until(lambda: _started(world, hanging.id))
        next(iter(world.host.alive.values())).die(why)
        ended = await world.ended(hanging)
        assert (ended.outcome, ended.effects) == (outcome, "possible")
        assert await world.events("generation_ended")
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"


async def test_a_replaced_shell_rejects_what_queued_for_the_old_one(tmp_path: Path) -> None:
    """When a lane's shell is replaced its queue ends `state_lost`; other lanes and later actions are not touched."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        blocker = await world.submit("hang", lane="b")
        restart, queued = await world.submit("restart"), await world.submit("ok")
        other = await world.submit("ok", lane="b")
        assert (await world.ended(restart)).outcome == "ok"
        assert (await world.ended(queued)).reason == "state_lost"
        assert (await world.ended(await world.submit("ok"))).outcome == "ok"
        await world.ask(blocker)
        assert (await world.ended(other)).outcome == "ok"


async def test_a_kind_without_executor_is_an_error_that_says_so(tmp_path: Path) -> None:
    """No executor in the sandbox: `error`, reason `no_executor`, and the message names what it has."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        ended = await world.ended(await world.submit_kind("browse", Browse(url="http://example.org")))
        assert (ended.outcome, ended.reason, ended.effects) == ("error", "no_executor", "none")
        assert "browse" in ended.message
        assert "run" in ended.message


@pytest.mark.parametrize(
    "failure", [SandboxStartFailed("no room"), InvalidRequest("no name"), KeyError("Id"), RuntimeError("defect")]
)
async def test_a_sandbox_that_cannot_start_ends_what_waits(tmp_path: Path, failure: Exception) -> None:
    """After the last attempt all that waits ends `error`, whatever the runtime raised; the next action tries again."""
    async with World.open(tmp_path) as world:
        world.host.starts_fail, world.host.start_failure = 2, failure
        async with world.working(start_attempts=2):
            await world.create()
            first, second = await world.submit(), await world.submit()
            for action in (first, second):
                ended = await world.ended(action)
                assert (ended.outcome, ended.reason, ended.effects) == ("error", "sandbox_start_failed", "none")
            assert (await world.ended(await world.submit())).outcome == "ok"


@pytest.mark.parametrize("made", [True, False])
async def test_what_waits_is_told_also_while_removals_cannot_be_proven(tmp_path: Path, made: bool) -> None:
    """A host that is away keeps nobody waiting for a sandbox; where nothing was made, nothing is asked of it."""
    async with World.open(tmp_path) as world:
        world.host.starts_fail = 10**9
        world.host.start_failure = SandboxStartFailed("away", made=made)
        world.host.removals_fail = 10**9
        async with world.working(start_attempts=2):
            await world.create()
            ended = await world.ended(await world.submit())
            assert (ended.outcome, ended.reason, ended.effects) == ("error", "sandbox_start_failed", "none")
            assert (world.host.removals > 0) == made
            world.host.starts_fail = world.host.removals_fail = 0
            assert (await world.ended(await world.submit())).outcome == "ok"


async def test_a_closed_session_ends_everything(tmp_path: Path) -> None:
    """Close: the running action is cancelled, the queue rejected, and nothing of the sandbox is left."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        flying, queued = await world.submit("hang"), await world.submit("ok")
        await world.until(lambda: _started(world, flying.id))
        await world.close()
        assert (await world.ended(flying)).outcome == "cancelled"
        assert (await world.ended(queued)).reason == "session_closed"

        async def removed() -> bool:
            return bool(await world.events("sandbox_removed"))

        await world.until(removed)
        assert not world.host.alive
        assert [event.kind for event in await world.events("generation_ended", "sandbox_removed")] == [
            "generation_ended",
            "sandbox_removed",
        ]
        assert not os.listdir(world.directories.sandboxes)
        assert not os.listdir(world.directories.spool)


async def test_a_session_closed_while_no_worker_runs_is_ended_by_the_next(tmp_path: Path) -> None:
    """What was queued never runs, what runs is cancelled, the sandbox is removed: the claim knows of the close."""
    async with World.open(tmp_path) as world:
        async with world.working():
            await world.create()
            flying, queued = await world.submit("hang"), await world.submit("ok", on_state_loss="run")
            await world.until(lambda: _started(world, flying.id))
        await world.close()
        async with world.working():
            assert (await world.ended(flying)).outcome == "cancelled"
            assert (await world.ended(queued)).reason == "session_closed"

            async def removed() -> bool:
                return bool(await world.events("sandbox_removed"))

            await world.until(removed)
        assert not world.host.alive
        assert world.host.effects[queued.id] == 0


async def test_the_life_deadline_is_named(tmp_path: Path) -> None:
    """A session past its life deadline is closed by its worker; the running action ends `timeout` by `life`."""
    clock = StandingClock()
    async with World.open(tmp_path) as world, world.working(clock=clock):
        await world.create(life_seconds=0.3)
        flying, queued = await world.submit("hang"), await world.submit("ok")
        # What the deadline meets is to run by then, however long its sandbox takes to start.
        await world.until(lambda: _started(world, flying.id))
        clock.go()
        ended = await world.ended(flying)
        assert (ended.outcome, ended.deadline) == ("timeout", "life")
        ended = await world.ended(queued)
        assert (ended.outcome, ended.reason, ended.deadline) == ("rejected", "session_closed", "life")


async def test_fields_that_do_not_fit_are_dropped_and_the_outcome_stands(tmp_path: Path) -> None:
    """An action server that sends nonsense beside its outcome loses the nonsense, not the outcome."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        blocker = await world.submit("hang")
        action = await world.submit("fail")
        world.host.fields[action.id] = {"exit_code": "one", "outcome": "ok", "generation": "forged"}
        await world.ask(blocker)
        ended = await world.ended(action)
        assert ended.outcome == "failed"
        assert ended.generation != "forged"
        assert "did not fit" in ended.message


async def test_output_stands_in_the_observation_and_is_followed_live(tmp_path: Path) -> None:
    """A small output stands whole in the observation, with digest and time index; a follower sees the same bytes."""
    async with World.open(tmp_path) as world, world.working() as worker:
        await world.create()
        blocker = await world.submit("hang")
        action = await world.submit("say hello")
        await world.until(lambda: _started(world, blocker.id))
        with worker.outputs.follow("default", "s", action.id) as follower:
            await world.ask(blocker)
            assert b"".join([data async for data in follower.read(1)]) == b"ello"
        ended = await world.ended(action)
        assert (ended.output, ended.output_bytes, ended.output_blob) == ("hello", 5, False)
        assert ended.output_digest == hashlib.sha256(b"hello").hexdigest()
        assert ended.output_index[0][0] == 0


async def test_inputs_and_interrupts_are_passed_on_once(tmp_path: Path) -> None:
    """What is typed to a running action reaches it in order, once."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        action = await world.submit("hang")
        await world.until(lambda: _started(world, action.id))
        await world.ask(action, "input_sent", InputSent(data="yes\n"))
        await world.ask(action, "interrupt_requested", InterruptRequested())
        await world.ask(action)
        assert (await world.ended(action)).outcome == "cancelled"
        assert [type(frame).__name__ for frame in world.host.requests[action.id]] == ["Input", "Interrupt"]


async def test_a_drain_leaves_the_sandbox_alive_and_the_next_worker_finds_it(tmp_path: Path) -> None:
    """Drained in the middle of a command: the sandbox lives on, the next worker re-attaches, nothing runs twice."""
    async with World.open(tmp_path) as world:
        worker = world.worker()
        async with running(worker):
            await world.create()
            action = await world.submit("hang")
            await world.until(lambda: _started(world, action.id))
            worker.drain()

            async def released() -> bool:
                return bool(await world.events("session_released"))

            await world.until(released)
        assert len(world.host.alive) == 1
        async with world.working():
            await world.ask(action)
            assert (await world.ended(action)).outcome == "cancelled"
        assert world.host.effects[action.id] == 1


async def _started(world: World, *actions: str) -> bool:
    return all(action in world.host.effects for action in actions)


async def test_nothing_is_sent_to_a_sandbox_before_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dials at once gets its actions once its runtime has taken the sandbox up, proxy and all."""
    monkeypatch.setattr(reunion, "LOOK_SECONDS", 600.0)
    async with World.open(tmp_path) as world:
        await world.create()
        async with world.working():
            await world.ended(await world.submit("ok"))
        asked, found, attach = asyncio.Event(), asyncio.Event(), world.host.attach

        async def find(handle: Handle, spec: SandboxSpec) -> ScriptedSandbox | None:
            asked.set()
            await found.wait()
            return await attach(handle, spec)

        monkeypatch.setattr(world.host, "attach", find)
        async with world.working():
            await asked.wait()
            action = await world.submit("ok")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await world.ended(action)
            found.set()
            assert (await world.ended(action)).outcome == "ok"


async def test_a_server_is_heard_though_its_sandbox_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks for a sandbox may hang with its engine; what runs there is to end for all that."""
    monkeypatch.setattr(reunion, "LOOK_SECONDS", 0.1)
    async with World.open(tmp_path) as world:
        await world.create()
        async with world.working():
            await world.ended(await world.submit("ok"))

        async def hang(handle: Handle, spec: SandboxSpec) -> ScriptedSandbox | None:
            await asyncio.Event().wait()
            return None

        monkeypatch.setattr(world.host, "attach", hang)
        async with world.working():
            assert (await world.ended(await world.submit("ok"))).outcome == "ok"
