"""Large parts under the worker: read from their blobs before their action is sent, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.unit.worker.world import WAIT_SECONDS, World

from chronicled.events.envelope import Event
from chronicled.events.kinds.actions import Run
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.parts import blobs_of

LONG = "say " + "x" * 200_000


async def submit_long(world: World, command: str = LONG, **fields: Any) -> Event:
    """Submit a command that is too long for an event, as the daemon does."""
    spec = world.codec.registry.current("action", "run")
    payload, parts = world.codec.split("default", "s", spec, Run(command=command, **fields))
    assert blobs_of(payload)
    for data in parts.values():
        await world.blobs.put(data)
    return await world.submit_kind("run", payload)


def hold_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Make reading blobs wait; return what tells that one waits, and what lets it go on."""
    waits, goes = asyncio.Event(), asyncio.Event()
    read = world.log.read_blob

    async def held(*arguments: Any) -> bytes:
        waits.set()
        await goes.wait()
        return await read(*arguments)

    monkeypatch.setattr(world.log, "read_blob", held)
    return waits, goes


async def test_a_long_command_is_sent_whole(tmp_path: Path) -> None:
    """What the action server gets is what the client sent; the lane goes on behind it."""
    async with World.open(tmp_path) as world, world.working():
        await world.create()
        action = await submit_long(world)
        after = await world.submit("say after")
        ended = await world.ended(action)
        assert (ended.outcome, ended.output_bytes) == (Outcome.OK, 200_000)
        assert (await world.ended(after)).output == "after"
        assert world.host.effects == {action.id: 1, after.id: 1}


async def test_a_cancel_while_parts_are_read_means_that_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action whose parts are on their way was never sent: a cancel ends it without effects."""
    async with World.open(tmp_path) as world:
        waits, goes = hold_reads(world, monkeypatch)
        async with world.working():
            await world.create()
            action = await submit_long(world)
            await asyncio.wait_for(waits.wait(), WAIT_SECONDS)
            await world.ask(action)
            ended = await world.ended(action)
            goes.set()
            assert (ended.outcome, ended.effects) == (Outcome.CANCELLED, Effects.NONE)
            after = await world.submit()
            await world.ended(after)
            assert list(world.host.effects) == [after.id]


async def test_a_sandbox_that_dies_while_parts_are_read_ran_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never sent and its state lost: it is rejected, or runs once in the next generation if that was asked for."""
    async with World.open(tmp_path) as world:
        waits, goes = hold_reads(world, monkeypatch)
        async with world.working():
            await world.create()
            action = await submit_long(world)
            again = await submit_long(world, on_state_loss="run")
            await asyncio.wait_for(waits.wait(), WAIT_SECONDS)
            next(iter(world.host.alive.values())).die("server-signal-9")
            ended = await world.ended(action)
            goes.set()
            assert (ended.outcome, ended.reason) == (Outcome.REJECTED, "state_lost")
            assert (await world.ended(again)).outcome == Outcome.OK
            assert world.host.effects == {again.id: 1}


async def test_a_worker_that_dies_while_parts_are_read_is_followed_by_one_that_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next worker reads them again, and the action runs once."""
    async with World.open(tmp_path) as world:
        waits, goes = hold_reads(world, monkeypatch)
        await world.create()
        async with world.working():
            action = await submit_long(world)
            await asyncio.wait_for(waits.wait(), WAIT_SECONDS)
        goes.set()
        async with world.working():
            assert (await world.ended(action)).outcome == Outcome.OK
        assert world.host.effects == {action.id: 1}
