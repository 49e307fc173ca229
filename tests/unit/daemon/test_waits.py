from __future__ import annotations

import asyncio

import msgspec
import pytest

from chronicled.daemon.waits import Waits
from chronicled.events.envelope import Event
from chronicled.events.errors import Overloaded
from chronicled.events.registry import builtin_registry


def ended(cause: str, kind: str = "run", tenant: str = "default") -> Event:
    """Return an observation of the action `cause`."""
    raw = msgspec.Raw(b'{"outcome":"ok","effects":"complete"}')
    return Event(
        1, tenant, "s", 1, "i", kind, 1, "observation", "main", "worker", "worker:w", "t", raw, "0" * 64, cause=cause
    )


@pytest.fixture
def waits() -> Waits:
    """Room for two."""
    return Waits(builtin_registry(), 2)


async def test_a_wait_ends_with_the_last_of_its_actions(waits: Waits) -> None:
    """Progress, other actions and other tenants do not end it; the terminal observation of each action does."""
    with waits.open("default", ["a", "b"]) as wait:
        waits.committed([ended("a", kind="progress"), ended("c"), ended("a", tenant="other"), ended("b")])
        assert not await wait.ended(0.01)
        waits.committed([ended("a")])
        assert await wait.ended(1)
    assert wait.found.keys() == {"a", "b"}


async def test_an_end_before_the_wait_begins_to_sleep_is_seen(waits: Waits) -> None:
    """From `open` on no end is missed."""
    with waits.open("default", ["a"]) as wait:
        waits.committed([ended("a")])
        assert await wait.ended(1)


async def test_waits_are_bounded_and_leave_nothing(waits: Waits) -> None:
    """One too many is refused; after the last has left, nothing is kept, cancelled ones included."""
    with waits.open("default", ["a"]), waits.open("default", ["a"]), pytest.raises(Overloaded), waits.open("d", ["a"]):
        pass

    async def sleep() -> None:
        with waits.open("default", ["a"]) as wait:
            await wait.ended(60)

    task = asyncio.create_task(sleep())
    await asyncio.sleep(0)
    assert waits.count == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits.count == 0


async def test_a_release_ends_every_wait(waits: Waits) -> None:
    """When the daemon stops, all go on with what is known."""
    with waits.open("default", ["a"]) as wait:
        waits.release()
        assert not await wait.ended(60)
    with waits.open("default", ["b"]) as late:
        assert not await late.ended(60)
