"""Errands: containers that are made and never started, for what only the engine's archive API can do.

They bear labels of their own, so that a sweep finds what a crash left of them. Nothing of an image ever runs in one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from anyio import CancelScope

from chronicled.events.errors import SandboxError
from chronicled.runtimes.docker import labels
from chronicled.runtimes.docker.engine import Engine

__all__ = ["Errands"]

_PREFIX: Final = "chronicled-errand-"

_log = structlog.get_logger("chronicled.docker")


class Errands:
    """The errands of one runtime.

    Args:
        engine: Where they are run.
        instance: Id of this instance, by which they are known.
    """

    def __init__(self, engine: Engine, instance: str) -> None:
        self.engine = engine
        self._labels = {labels.INSTANCE: instance, labels.ERRAND: "1"}
        self._present: set[str] = set()

    @asynccontextmanager
    async def run(self, image: str, volume: str | None = None, target: str = "") -> AsyncGenerator[str]:
        """Give the name of a container of the image, which is gone afterwards.

        Args:
            image: Id of an image that the engine has.
            volume: A volume to mount; what the image has at the target does not get into it.
            target: Where.

        Raises:
            EngineRefused, EngineUnreachable: it cannot be made.

        Cancellation: what was made is removed first; where the engine is away, by a sweep.
        """
        mounts: list[dict[str, Any]] = []
        if volume is not None:
            options = {"NoCopy": True}
            mounts.append({"Type": "volume", "Source": volume, "Target": target, "VolumeOptions": options})
        body: dict[str, Any] = {
            "Image": image,
            "Cmd": ["/"],
            "Labels": self._labels,
            "NetworkDisabled": True,
            "HostConfig": {"Mounts": mounts, "NetworkMode": "none"},
        }
        name = f"{_PREFIX}{os.urandom(8).hex()}"
        self._present.add(name)
        try:
            with CancelScope(shield=True):
                await self.engine.create(name, body)
            yield name
        finally:
            with CancelScope(shield=True):
                await self._remove(name)
            self._present.discard(name)

    async def sweep(self) -> None:
        """Remove errands of this instance that nobody is on.

        Raises:
            EngineRefused, EngineUnreachable: the engine does not list them.
        """
        wanted = [f"{name}={value}" for name, value in self._labels.items()]
        for entry in await self.engine.containers(*wanted):
            # By their names too: an image that was made of one has its labels.
            for name in (str(name).removeprefix("/") for name in entry.get("Names") or ()):
                if name.startswith(_PREFIX) and name not in self._present:
                    _log.warning("errand_removed", container=name)
                    await self._remove(name)

    async def _remove(self, name: str) -> None:
        try:
            await self.engine.remove(name)
        except SandboxError as error:
            _log.warning("errand_left", container=name, detail=error.detail)
