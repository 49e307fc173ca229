"""Policies that answer anything: a yes is `Decision.allow()`, everything else a no that can be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from chronicled.daemon.units.policy import OwnedPolicy, Policies
from chronicled.events import Payload
from chronicled.events.policy import Decision, PolicyRequest

REQUEST = PolicyRequest(
    tenant="default",
    session="s",
    lane="main",
    actor="uid:0",
    kind="run",
    version=1,
    payload=Payload(),
    runtime="process",
)


def _raise(error: BaseException) -> Callable[[PolicyRequest], Any]:
    def policy(_: PolicyRequest) -> Any:
        raise error

    return policy


def _answer(answer: Any) -> Callable[[PolicyRequest], Any]:
    return lambda _: answer


def _made(**fields: Any) -> Decision:
    return Decision(**fields)


WRONG: dict[str, tuple[Callable[[PolicyRequest], Any], str]] = {
    "it exits": (_raise(SystemExit(3)), "raised SystemExit"),
    "it stops": (_raise(StopIteration()), "raised"),
    "it is late by its own word": (_raise(TimeoutError()), "raised TimeoutError"),
    "it cancels itself": (_raise(asyncio.CancelledError()), "was cancelled from within"),
    "it says yes in words": (_answer(_made(allowed="no")), "that is none"),
    "it says one": (_answer(_made(allowed=1)), "that is none"),
    "it names a number": (_answer(_made(allowed=False, rule=5)), "that is none"),
    "it says nothing": (_answer(None), "returned NoneType"),
}


def _awaited(policy: Callable[[PolicyRequest], Any]) -> Callable[[PolicyRequest], Any]:
    async def awaited(request: PolicyRequest) -> Any:
        await checkpoint()
        return policy(request)

    return awaited


async def asked(policy: Callable[[PolicyRequest], Any]) -> Any:
    """Return what comes of a policy."""
    return await Policies([OwnedPolicy("acme", policy)], 60.0).judge(REQUEST)


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize("what", WRONG)
async def test_whatever_is_no_yes_is_a_no(what: str, *, awaits: bool) -> None:
    """A policy that exits, cancels itself or answers with what only looks like a decision rejects, and harms nobody."""
    policy, words = WRONG[what]
    refusal = await asked(_awaited(policy) if awaits else policy)
    assert refusal.rule == "acme.policy_failed"
    assert words in refusal.message


async def test_a_yes_is_a_yes() -> None:
    """Negative control: nothing is against it."""
    assert await asked(_answer(Decision.allow())) is None
    assert await asked(_awaited(_answer(Decision.allow()))) is None


async def test_what_a_policy_says_can_be_stored() -> None:
    """Text that is no Unicode is replaced: the rejection is recorded whatever its words are."""
    refusal = await asked(_answer(Decision.reject("acme.x", "no \ud800")))
    assert (refusal.rule, refusal.message) == ("acme.x", "no ?")


async def test_whoever_asks_can_still_go_away() -> None:
    """A request that is cancelled ends; it is not taken for a policy that cancelled itself."""
    called = asyncio.Event()

    async def slow(_: PolicyRequest) -> Decision:
        called.set()
        await anyio.sleep_forever()
        return Decision.allow()

    task = asyncio.create_task(asked(slow))
    await asyncio.wait_for(called.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    called.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(asked, slow)
        await asyncio.wait_for(called.wait(), 60)
        tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancel_called
