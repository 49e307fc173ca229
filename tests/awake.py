"""A clock that stands still while the machine does: for bounds on what the product takes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

__all__ = ["awake", "within"]

TICK_SECONDS: Final = 0.02
GAP_SECONDS: Final = 0.2
"""Who wants to run so often and does not for so long was kept from it, by the machine or by its other tenants."""
STILL_SECONDS_MAX: Final = 30.0


class _Watch(threading.Thread):
    """Notes for how long it was kept from running."""

    def __init__(self) -> None:
        super().__init__(name="awake", daemon=True)
        self._noted = (time.monotonic(), 0.0)
        """When it ran last, and how long it had stood still until then."""

    def run(self) -> None:
        """Look at the clock for ever."""
        while True:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            self._noted = (now, self._still(now))

    def _still(self, now: float) -> float:
        last, still = self._noted
        return still + max(0.0, now - last - GAP_SECONDS)

    def seconds(self) -> float:
        """Return the time less that in which nothing ran."""
        now = time.monotonic()
        return now - self._still(now)


@cache
def _watch() -> _Watch:
    watch = _Watch()
    watch.start()
    return watch


def awake() -> float:
    """Return seconds like `time.monotonic`, without those in which this process was kept from running."""
    return _watch().seconds()


@asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None]:
    """Fail when the block takes longer; time in which the machine stood still does not count."""
    begin = awake()
    async with asyncio.timeout(seconds + STILL_SECONDS_MAX):
        yield
    assert awake() - begin < seconds, "it took too long"
