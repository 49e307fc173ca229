"""The engine's containers as somebody from outside sees them: through its own client, and through /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from tests.crash.victims import children_of, start_ticks
from tests.engine.own import OwnEngine

__all__ = ["BLOWS", "Containers", "Found"]

BLOWS = ("server", "reaper", "init", "kill", "remove", "paused")
"""Ways to end one container."""


@dataclass(frozen=True)
class Found:
    """A container as the engine lists it."""

    id: str
    state: str
    labels: Mapping[str, str]


class Containers:
    """Looks at containers and strikes them.

    Args:
        engine: The engine that they are on.
    """

    def __init__(self, engine: OwnEngine) -> None:
        self._engine = engine

    async def docker(self, *words: str) -> str:
        """Run the engine's client; fails with its complaint."""
        return await asyncio.to_thread(self._engine, *words)

    async def all(self) -> list[Found]:
        """Return every container, running or not."""
        ids = (await self.docker("ps", "--all", "--quiet", "--no-trunc")).split()
        if not ids:
            return []
        # One that goes away meanwhile makes the whole call fail.
        try:
            found: list[Any] = msgspec.json.decode(await self.docker("inspect", *ids))
        except AssertionError:
            return await self.all()
        return [Found(each["Id"], each["State"]["Status"], each["Config"]["Labels"] or {}) for each in found]

    async def strike(self, container: str, blow: str) -> bool:
        """End a container from outside; False when it was gone already.

        `server` (the action server), `reaper` (the process above it), `init` (its first process): SIGKILL to the host's
        process. `kill`, `remove`, `paused` (paused, then killed): through the engine.
        """
        if blow in {"server", "reaper", "init"}:
            return _kill(await self._process(container, blow))
        try:
            if blow == "paused":
                await self.docker("pause", container)
            await self.docker(*(("rm", "--force") if blow == "remove" else ("kill",)), container)
        except AssertionError:
            return False
        return True

    async def _process(self, container: str, blow: str) -> int:
        try:
            init = int(await self.docker("inspect", "--format", "{{.State.Pid}}", container))
        except AssertionError:
            return 0
        reapers = children_of(init) if init else []
        if blow == "init" or not reapers:
            return init
        # The server is the first that the reaper forks, lane reapers follow.
        return reapers[0] if blow == "reaper" else min(children_of(reapers[0]), key=start_ticks, default=0)


def _kill(pid: int) -> bool:
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
