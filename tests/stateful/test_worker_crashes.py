"""The worker dies between any two steps, its sandboxes too: nothing accepted is lost or repeated, every end is true."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.stateful.mortal import MortalWorker
from tests.unit.worker.world import World

from chronicled.events.envelope import Event
from chronicled.runtimes.worker.journal import Journal

Script = list[tuple[str, str, bool]]
"""Command, lane, and whether it runs in spite of lost state."""

SCRIPT: Script = [
    ("ok", "a", False),
    ("talk hello", "a", False),
    ("slow", "b", False),
    ("restart", "b", False),
    ("ok", "b", False),
    ("ok", "a", True),
]
STEPS_MAX = 400


async def play(
    world: World, script: Script, fuses: list[int], between: Callable[[World], None], calm: bool = False
) -> int:
    """Submit the script, let one worker per fuse die, then one finish; return the steps that the first one made."""
    await world.create()
    actions = [
        await world.submit(command, lane=lane, on_state_loss="run" if run else "reject")
        for command, lane, run in script
    ]
    steps = 0
    for fuse in [*fuses, None]:
        finished = asyncio.get_running_loop().create_task(_all_ended(world, actions))
        mortal = MortalWorker(world, fuse)
        try:
            await mortal.live(finished)
            done = finished.done()
        finally:
            finished.cancel()
        steps = steps or mortal.fuse.steps
        if not done:
            assert fuse is not None, "not every action ended"
            between(world)
    await check(world, actions, calm)
    return steps


async def _all_ended(world: World, actions: list[Event]) -> None:
    for action in actions:
        await world.ended(action)


async def check(world: World, actions: list[Event], calm: bool) -> None:
    """Every action has one true end; with `calm`, when nothing but workers died, all of them ran."""
    log = await world.events()
    started = {_of(world, event).generation: event.position for event in log if event.kind == "generation_started"}
    ended = [event.position for event in log if event.kind == "generation_ended"]
    for action in actions:
        terminals = [event for event in log if event.category == "observation" and event.cause == action.id]
        terminals = [event for event in terminals if event.kind == "run"]
        assert len(terminals) == 1, f"{len(terminals)} ends"
        said, effects = _of(world, terminals[0]), world.host.effects[action.id]
        payload = _of(world, action)
        assert effects <= 1, f"it ran {effects} times"
        if said.outcome in {"ok", "failed"}:
            assert effects == 1, f"{said.outcome}, but it never ran"
        if said.effects == "none":
            assert effects == 0, f"{said.outcome} without effects, but it ran"
        if said.generation is not None and payload.on_state_loss == "reject":
            lost = [position for position in ended if action.position < position < started[said.generation]]
            assert not lost, "it ran in a fresh sandbox, after the state it was accepted for was lost"
        if calm:
            assert said.outcome == "ok" or said.reason == "state_lost", f"{said.outcome}: {said.message}"
            if payload.command.endswith("hello") and said.outcome == "ok":
                assert said.output == "hello"
    order = {action.id: action.position for action in actions}
    for lane in {action.lane for action in actions}:
        ran = [order[id] for id in world.host.started if id in order and _lane(actions, id) == lane]
        assert ran == sorted(ran), "a lane ran out of order"


def _lane(actions: list[Event], id: str) -> str:
    return next(action.lane for action in actions if action.id == id)


def _of(world: World, event: Event) -> Any:
    return world.codec.decode(event)


def nothing(_world: World) -> None:
    """Only the worker dies."""


def servers_die(world: World) -> None:
    """The sandboxes die with the worker."""
    for server in list(world.host.alive.values()):
        server.die("server-signal-9")


def reboot(world: World) -> None:
    """The host reboots: sandboxes are gone, the journal proves nothing any more."""
    world.host.reboot()


def journal_vanishes(world: World) -> None:
    """Sandboxes die, and the journal is gone."""
    servers_die(world)
    Path(world.directories.journal, "dispatch").unlink(missing_ok=True)


def run(script: Script, fuses: list[int], between: Callable[[World], None], calm: bool = False) -> int:
    """Play a script in a world of its own."""

    async def main() -> int:
        with tempfile.TemporaryDirectory() as root:
            async with World.open(Path(root)) as world:
                return await play(world, script, fuses, between, calm)

    return asyncio.run(main())


@pytest.mark.parametrize("between", [nothing, servers_die, reboot, journal_vanishes])
def test_a_crash_at_every_step(between: Callable[[World], None]) -> None:
    """Whatever step the worker dies at, and whatever dies with it, each action runs at most once and ends truly."""
    steps = run(SCRIPT, [], nothing, calm=True)
    assert 50 < steps < STEPS_MAX
    for fuse in range(1, steps + 1):
        run(SCRIPT, [fuse], between, calm=between is nothing)


COMMANDS = st.sampled_from(["ok", "fail", "slow", "say hello", "talk hello", "restart", "die"])
SCRIPTS = st.lists(st.tuples(COMMANDS, st.sampled_from("ab"), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    SCRIPTS,
    st.lists(st.integers(1, 120), max_size=4),
    st.sampled_from([nothing, servers_die, reboot, journal_vanishes]),
)
def test_crash_after_crash(script: Script, fuses: list[int], between: Callable[[World], None]) -> None:
    """Several crashes in a row, while recovering too, lose nothing and repeat nothing."""
    run(script, fuses, between)


@pytest.mark.parametrize("dedupes", [True, False])
def test_control_without_dedupe(dedupes: bool) -> None:
    """Control: where the server forgets ids, an action that outlives its worker runs twice, and the check sees it."""

    async def main(root: Path) -> None:
        async with World.open(root) as world:
            world.host.dedupes = dedupes
            await world.create()
            action = await world.submit("stay")
            for enough in (world.host.staying.wait(), world.ended(action)):
                reached = asyncio.ensure_future(enough)
                await MortalWorker(world, None).live(reached)
                assert reached.done()
            await check(world, [action], calm=False)

    with tempfile.TemporaryDirectory() as root:
        if dedupes:
            asyncio.run(main(Path(root)))
        else:
            with pytest.raises(AssertionError, match="it ran 2 times"):
                asyncio.run(main(Path(root)))


def _violations(between: Callable[[World], None], arrange: Callable[[World], None]) -> int:
    async def main(fuse: int) -> None:
        with tempfile.TemporaryDirectory() as root:
            async with World.open(Path(root)) as world:
                arrange(world)
                await play(world, [("talk hello", "a", True)], [fuse], between)

    found = 0
    for fuse in range(1, 40):
        try:
            asyncio.run(main(fuse))
        except (AssertionError, TimeoutError):
            found += 1
    return found


def test_control_without_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with a journal that takes no note the same check finds an effect that is denied or repeated."""

    def note_nothing(_journal: Journal, _generation: str, _action: str, _fence: int) -> None:
        return

    monkeypatch.setattr(Journal, "note_dispatch", note_nothing)
    assert _violations(servers_die, lambda _world: None) > 0
