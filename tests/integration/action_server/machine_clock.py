"""A clock for promises of so many seconds: it stands while the machine does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["machine_clock"]

TURN_SECONDS: Final = 0.01
TURN_SECONDS_MAX: Final = 0.1
"""Whoever asks for a turn each hundredth of a second has it by then, unless nobody has one."""


@asynccontextmanager
async def machine_clock() -> AsyncGenerator[Callable[[], float]]:
    """Give what tells for how many seconds the machine has run since: no product can use those in which it did not."""
    loop = asyncio.get_running_loop()
    counted, last = 0.0, loop.time()

    def seconds() -> float:
        nonlocal counted, last
        now = loop.time()
        counted, last = counted + min(now - last, TURN_SECONDS_MAX), now
        return counted

    async def take_turns() -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            seconds()

    turns = loop.create_task(take_turns())
    try:
        yield seconds
    finally:
        turns.cancel()
        await asyncio.wait((turns,))
