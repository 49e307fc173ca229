"""A place among the sandboxes that start side by side, given up while an image comes; and the start deadline."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio import CancelScope, CapacityLimiter

from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes.runtime import Report

__all__ = ["StartSlot"]

IMAGE_SECONDS_MAX: Final = 7200.0
"""Longest that an image may take to come; whoever fetches it has shorter deadlines of its own."""
COMING: Final = frozenset({"queued", "running"})


class StartSlot:
    """One start's place in the queue of starts.

    Time that an image takes counts neither against the start deadline nor against the other starts.

    Args:
        starts: Bounds what starts side by side.
        seconds: The start deadline.
        report: Takes what the runtime tells meanwhile.
    """

    def __init__(self, starts: CapacityLimiter, seconds: float, report: Report) -> None:
        self.seconds = seconds
        self.deadline = CancelScope()
        """Around the start: ends it when the deadline passes."""
        self.queued_seconds = 0.0
        self._starts = starts
        self._report = report
        self._holds = False

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[None]:
        """Wait for a place, and have it until left; the deadline runs from then on."""
        try:
            await self._take()
            yield
        finally:
            self._give_up()

    async def report(self, progress: ImageProgress) -> None:
        """Pass on how far the image is; while it comes, the place is another's."""
        if progress.status in COMING:
            self.deadline.deadline = anyio.current_time() + IMAGE_SECONDS_MAX
            self._give_up()
            await self._report(progress)
        else:
            await self._report(progress)
            await self._take()

    async def _take(self) -> None:
        if not self._holds:
            began = anyio.current_time()
            await self._starts.acquire_on_behalf_of(self)
            self._holds = True
            self.queued_seconds += anyio.current_time() - began
        self.deadline.deadline = anyio.current_time() + self.seconds

    def _give_up(self) -> None:
        if self._holds:
            self._starts.release_on_behalf_of(self)
            self._holds = False
