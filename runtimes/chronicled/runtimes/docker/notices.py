"""Notices of the engine that concern living sandboxes: the kernel has killed for want of memory."""

from __future__ import annotations

import time
from typing import Any, Final

import anyio
import structlog

from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.failure import EngineUnreachable
from chronicled.runtimes.docker.labels import INSTANCE

__all__ = ["MemoryNotices", "Shortage"]

RETRY_SECONDS_MIN: Final = 0.1
RETRY_SECONDS_MAX: Final = 2.0

_log = structlog.get_logger("chronicled.docker")


class Shortage:
    """What is known of one container's want of memory."""

    def __init__(self) -> None:
        self.count = 0
        self.last_nanoseconds = 0
        """Unix time of the last notice, by the engine's clock."""
        self._changed = anyio.Event()

    def note(self, at: int) -> None:
        """Count a notice; one that was counted already, or is older than the last, is not."""
        if at <= self.last_nanoseconds:
            return
        self.count += 1
        self.last_nanoseconds = at
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def beyond(self, count: int) -> None:
        """Return once there were more notices than `count`. Cancellation: safe."""
        while self.count <= count:
            await self._changed.wait()


class MemoryNotices:
    """The engine's `oom` events of this instance's containers, from one stream for all of them.

    Args:
        engine: Whose events.
        instance: Whose containers.
    """

    def __init__(self, engine: Engine, instance: str) -> None:
        self._engine = engine
        self._instance = instance
        self._by_container: dict[str, Shortage] = {}
        self._since = 0

    def of(self, container: str) -> Shortage:
        """Return what is known of a container; `forget` it when it is gone."""
        return self._by_container.setdefault(container, Shortage())

    def forget(self, container: str) -> None:
        """Drop a container. Idempotent."""
        self._by_container.pop(container, None)

    async def recall(self, container: str, since: int) -> None:
        """Learn what the engine remembers of a container that was found again; `since` is a Unix time in nanoseconds.

        Raises:
            EngineUnreachable: it does not answer.
        """
        self.of(container)
        filters = {"type": ["container"], "event": ["oom"], "container": [container]}
        await self._engine.recall(filters, since, time.time_ns(), self._take)

    async def run(self) -> None:
        """Follow the engine until cancelled, across its restarts."""
        wait = RETRY_SECONDS_MIN
        while True:
            began = anyio.current_time()
            try:
                await self._engine.follow(
                    {"type": ["container"], "event": ["oom"], "label": [f"{INSTANCE}={self._instance}"]},
                    self._since + 1 if self._since else 0,
                    self._take,
                )
            except EngineUnreachable as error:
                _log.info("engine_events_ended", detail=error.detail)
            if anyio.current_time() - began > RETRY_SECONDS_MAX:
                wait = RETRY_SECONDS_MIN
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    def _take(self, event: dict[str, Any]) -> None:
        at = int(event.get("timeNano") or 0)
        self._since = max(self._since, at)
        container = str(event.get("id") or "")
        if event.get("status") == "oom" and container in self._by_container:
            self._by_container[container].note(at)
