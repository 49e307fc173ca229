"""Work that is seen through though whoever asked for it goes away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from chronicled.events.errors import Unavailable

__all__ = ["apart"]

T = TypeVar("T")


async def apart(tasks: TaskGroup | None, work: Callable[[], Awaitable[T]]) -> T:
    """Do the work in a task of the group and return its result; without a group, do it here.

    Raises:
        Unavailable: the group ended before the work did.
        And what the work raises.

    Cancellation: ends the wait, and not the work.
    """
    if tasks is None:
        return await work()
    done = anyio.Event()
    results: list[T] = []
    errors: list[Exception] = []

    async def run() -> None:
        try:
            results.append(await work())
        except Exception as error:
            errors.append(error)
        finally:
            done.set()

    tasks.start_soon(run)
    await done.wait()
    if errors:
        raise errors[0]
    if not results:
        raise Unavailable("The daemon is stopping; ask again when it is back.")
    return results[0]
