"""Cancels and waits that race with ends: what counts is what the log says at that moment, never what was read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.daemon.test_vault import BY, World

from chronicled.daemon.http.action_routes import ActionRoutes
from chronicled.daemon.submission import ActionRequest
from chronicled.daemon.waits import Waits
from chronicled.events.envelope import OBSERVATION, Event
from chronicled.events.errors import ActionEnded
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.lifecycle import CancelRequested
from chronicled.events.kinds.observations import RunObservation
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.presentation import Presentation
from chronicled.events.registry import builtin_registry
from chronicled.events.store import Append, Appended
from chronicled.storage.memory import MemoryStore


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with an open session."""
    store = await MemoryStore.open()
    world = World(tmp_path, store)
    await world.create()
    yield world
    await store.aclose()


async def submit(world: World) -> Event:
    """Submit a command."""
    append = await world.submission.prepare(BY, "s", [ActionRequest(kind="run", payload=b'{"command": "true"}')])
    return (await world.submission.append(append)).events[0]


async def end(world: World, action: Event) -> None:
    """Append an action's end, as its worker does."""
    draft = world.codec.draft(
        OBSERVATION,
        "run",
        RunObservation(outcome=Outcome.OK, effects=Effects.COMPLETE),
        tenant=action.tenant,
        session=action.session,
        id=SystemIds().new(),
        cause=action.id,
    )
    await world.store.append(Append((draft,)))


async def cancelled(world: World, action: Event, head: Event) -> list[Any]:
    """Cancel an action behind the head that somebody has read a moment ago; return the kinds of what was appended."""
    appended = await world.submission.cancel(BY, action, CancelRequested(), head)
    return [(event.category, event.kind) for event in appended.events]


async def test_what_waits_ends_with_its_cancel(world: World) -> None:
    """Behind an open action it cannot have run: request and end are one append."""
    head, action = await submit(world), await submit(world)
    assert await cancelled(world, action, head) == [("lifecycle", "cancel_requested"), ("observation", "run")]
    terminal = await world.store.terminal("default", action.id)
    assert terminal is not None
    assert world.codec.decode(terminal).effects is Effects.NONE


async def test_what_has_become_the_head_is_not_said_to_have_had_no_effect(world: World) -> None:
    """The head has ended since it was read, so this one may be running: only the request is appended."""
    head, action = await submit(world), await submit(world)
    await end(world, head)
    assert await cancelled(world, action, head) == [("lifecycle", "cancel_requested")]
    assert await world.store.terminal("default", action.id) is None


async def test_what_has_ended_meanwhile_is_not_cancelled(world: World) -> None:
    """It ran and ended between the look at the lane and the append: its caller is told so, and nothing is written."""
    head, action = await submit(world), await submit(world)
    await end(world, head)
    await end(world, action)
    before = world.store.head
    with pytest.raises(ActionEnded):
        await cancelled(world, action, head)
    with pytest.raises(ActionEnded):
        await cancelled(world, action, action)
    assert world.store.head == before


def _find_nothing(_tenant: str, _session: str) -> None:
    """Know of no session."""


async def test_an_end_that_comes_with_the_append_is_waited_for_no_longer(world: World) -> None:
    """Who prefers to wait is listening before the action can end, however fast that is."""
    waits = Waits(builtin_registry(), 1)
    world.store.listen(waits.committed)
    append_only = world.submission.append

    async def append_and_end(append: Append, requests: Sequence[ActionRequest] = ()) -> Appended:
        appended = await append_only(append, requests)
        await end(world, appended.events[0])
        return appended

    world.submission.append = append_and_end  # type: ignore[method-assign]  # a worker that is faster than any
    nothing: Any = SimpleNamespace(find=_find_nothing)
    routes = ActionRoutes(world.submission, world.store, nothing, waits, Presentation(world.codec), 60.0, 1)
    request = ActionRequest(kind="run", payload=b'{"command": "true"}')
    async with asyncio.timeout(10):
        answer = await routes.answer(await world.submission.prepare(BY, "s", [request]), [request], 60.0, single=True)
    assert answer.status == 200
