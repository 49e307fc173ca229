"""Notices of the engine that concern living sandboxes: a kill for want of memory, a pause that somebody has made."""

from __future__ import annotations

import time
from typing import Any, Final

import anyio
import structlog

from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.failure import EngineUnreachable
from chronicled.runtimes.docker.labels import INSTANCE

__all__ = ["Notices", "Shortage", "Stillness"]

RETRY_SECONDS_MIN: Final = 0.1
RETRY_SECONDS_MAX: Final = 2.0
BURST_NANOSECONDS: Final = 10**9
"""Notices of one want of memory come within so long of each other."""
OVERLAP_NANOSECONDS: Final = 3 * 10**9
"""How far back an engine of this machine is asked at first: what happened while it was being reached."""

_log = structlog.get_logger("chronicled.docker")


class Shortage:
    """What is known of one container's want of memory."""

    def __init__(self) -> None:
        self.count = 0
        self.last_nanoseconds = 0
        """Unix time of the last want of memory, by the engine's clock."""
        self._heard_nanoseconds = 0
        self._changed = anyio.Event()

    def note(self, at: int) -> None:
        """Take a notice; one that was taken already does not count, nor does one of the same want of memory."""
        if at <= self._heard_nanoseconds:
            return
        same = at - self._heard_nanoseconds < BURST_NANOSECONDS
        self._heard_nanoseconds = at
        if same:
            return
        self.count += 1
        self.last_nanoseconds = at
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def after(self, nanoseconds: int) -> None:
        """Return once there was a want of memory after a moment. Cancellation: safe."""
        while self.last_nanoseconds <= nanoseconds:
            await self._changed.wait()


class Stillness:
    """Whether a container may have been paused, or let go on, since it was last looked at."""

    def __init__(self) -> None:
        self._hinted = anyio.Event()

    def hint(self) -> None:
        """Have it looked at."""
        self._hinted.set()

    async def hinted(self) -> None:
        """Return once it should be looked at. One caller at a time. Cancellation: safe."""
        await self._hinted.wait()
        self._hinted = anyio.Event()


class _Known:
    __slots__ = ("shortage", "stillness")

    def __init__(self) -> None:
        self.shortage = Shortage()
        self.stillness = Stillness()


class Notices:
    """The engine's events of this instance's containers, from one stream for all of them.

    Args:
        engine: Whose events.
        instance: Whose containers.
    """

    def __init__(self, engine: Engine, instance: str) -> None:
        self._engine = engine
        self._instance = instance
        self._by_container: dict[str, _Known] = {}
        self._since = 0

    def shortage(self, container: str) -> Shortage:
        """Return what is known of a container's want of memory; `forget` it when it is gone."""
        return self._by_container.setdefault(container, _Known()).shortage

    def stillness(self, container: str) -> Stillness:
        """Return what is known of a container's pauses; `forget` it when it is gone."""
        return self._by_container.setdefault(container, _Known()).stillness

    def forget(self, container: str) -> None:
        """Drop a container. Idempotent."""
        self._by_container.pop(container, None)

    async def recall(self, container: str, since: int) -> None:
        """Learn what the engine remembers of a container that was found again; `since` is a Unix time in nanoseconds.

        Raises:
            EngineUnreachable: it does not answer.
        """
        self.shortage(container)
        filters = {"type": ["container"], "event": ["oom"], "container": [container]}
        await self._engine.recall(filters, since, time.time_ns(), self._take)

    async def run(self) -> None:
        """Follow the engine until cancelled, across its restarts."""
        wait, told = RETRY_SECONDS_MIN, ""
        if self._engine.local:
            self._since = time.time_ns() - OVERLAP_NANOSECONDS
        while True:
            began = anyio.current_time()
            for known in self._by_container.values():
                # What happened while nobody listened, an engine that was restarted does not tell.
                known.stillness.hint()
            try:
                await self._engine.follow(
                    {
                        "type": ["container"],
                        "event": ["oom", "pause", "unpause"],
                        "label": [f"{INSTANCE}={self._instance}"],
                    },
                    self._since + 1 if self._since else 0,
                    self._take,
                )
            except EngineUnreachable as error:
                if anyio.current_time() - began > RETRY_SECONDS_MAX:
                    wait, told = RETRY_SECONDS_MIN, ""
                # Once: an engine that is away for a day is not told of forty thousand times.
                if error.detail != told:
                    _log.info("engine_events_ended", detail=error.detail)
                    told = error.detail
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    def _take(self, event: dict[str, Any]) -> None:
        at = int(event.get("timeNano") or 0)
        self._since = max(self._since, at)
        known = self._by_container.get(str(event.get("id") or ""))
        if known is None:
            return
        if event.get("status") == "oom":
            known.shortage.note(at)
        elif event.get("status") in {"pause", "unpause"}:
            known.stillness.hint()
