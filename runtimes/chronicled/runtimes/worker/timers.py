"""Deadlines of a worker: one heap, one task, kept by the monotonic clock."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Final

import anyio

from chronicled.events.clock import Clock

__all__ = ["Timer", "Timers"]

DROPPED_MAX: Final = 256


class Timer:
    """One deadline; `cancel` it when it no longer matters."""

    __slots__ = ("act", "at", "owner")

    def __init__(self, at: float, act: Callable[[], None], owner: Timers) -> None:
        self.at = at
        self.act: Callable[[], None] | None = act
        self.owner = owner

    def cancel(self) -> None:
        """See to it that it never fires. Idempotent."""
        if self.act is not None:
            self.act = None
            self.owner.dropped()


class Timers:
    """Calls functions at their times, on the event loop, from the one task that runs `run`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._sooner = anyio.Event()
        self._wake_at = math.inf
        self._dropped = 0

    def dropped(self) -> None:
        """Count a cancelled timer; once most are, they are swept out: deadlines are long and actions short."""
        self._dropped += 1
        if self._dropped > DROPPED_MAX and 2 * self._dropped > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].act is not None]
            heapq.heapify(self._heap)
            self._dropped = 0

    def after(self, seconds: float, act: Callable[[], None]) -> Timer:
        """Have `act` called in `seconds`, at once (but not from here) when that is past. It must not block or raise."""
        timer = Timer(self._clock.monotonic() + max(0.0, seconds), act, self)
        heapq.heappush(self._heap, (timer.at, next(self._order), timer))
        if timer.at < self._wake_at:
            self._sooner.set()
        return timer

    async def run(self) -> None:
        """Fire what is due, for ever. Cancellation: safe."""
        while True:
            now = self._clock.monotonic()
            while self._heap and (self._heap[0][0] <= now or self._heap[0][2].act is None):
                timer = heapq.heappop(self._heap)[2]
                act, timer.act = timer.act, None
                if act is not None:
                    act()
            self._wake_at = self._heap[0][0] if self._heap else math.inf
            self._sooner = anyio.Event()
            with anyio.move_on_after(None if not self._heap else self._wake_at - now):
                await self._sooner.wait()
            self._wake_at = -math.inf
