"""The steps of a build: containers of the engine's own, bounded in what the engine's builder has no parameter for."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import anyio
import structlog
from aiodocker import Docker, DockerError

from chronicled.events.errors import ImageBuildFailed
from chronicled.runtimes.docker.images_errors import engine_silent
from chronicled.runtimes.docker.images_settings import ImageSettings
from chronicled.runtimes.docker.images_stream import Connect

__all__ = ["Steps"]

LOOK_SECONDS: Final = 2.0
ENGINE_SECONDS: Final = 30.0
AGREE_SECONDS: Final = 2.0
"""So long an engine may say of a step that it runs, and refuse to bound it because it does not."""
AGAIN_SECONDS: Final = 0.05
STEPS_MAX: Final = 10_000
ID_CHARACTERS: Final = 12
"""Of a container's id, as builds name it."""
_RUNNING: Final = re.compile(r" ---> Running in ([0-9a-f]{12})\s*")
_COMMITTED: Final = re.compile(r" ---> ([0-9a-f]{12})\s*")
_OVER: Final = frozenset({404, 409})

_log = structlog.get_logger("chronicled.images")


class Steps:
    """The containers of one build, as its stream names them.

    The builder knows no bound on processes and none on the disk. It tells of a container before it starts it; there
    the bound is set, and what the container has written is looked at while it runs.

    Args:
        connect: Returns the engine's client.
        settings: The bounds.
        name: The image that is built.
    """

    def __init__(self, connect: Connect, settings: ImageSettings, name: str) -> None:
        self._connect = connect
        self._settings = settings
        self._name = name
        self._written: dict[str, int] = {}
        """Bytes by container; the newest is the last."""

    async def take(self, message: Mapping[str, Any]) -> None:
        """Bound the container that a message of the build tells of, if it tells of one; note what one has left behind.

        Raises:
            ImageBuildFailed: it cannot be bounded, or there are too many.
            ImageUnreachable: the engine does not answer.
        """
        printed = message.get("stream")
        if not isinstance(printed, str):
            return
        if (committed := _COMMITTED.fullmatch(printed)) is not None:
            await self._note(committed[1])
        if (match := _RUNNING.fullmatch(printed)) is None:
            return
        if len(self._written) >= STEPS_MAX:
            raise ImageBuildFailed(f"{self._name}: over {STEPS_MAX} steps.", image=self._name)
        container = match[1]
        try:
            with anyio.fail_after(ENGINE_SECONDS):
                docker = await self._connect()
                # A step can print such a line too, with somebody else's container in it.
                if self._is_step(await self._inspect(docker, f"containers/{container}")):
                    await self._bound(docker, container)
                    self._written.setdefault(container, 0)
        except DockerError as error:
            raise ImageBuildFailed(
                f"{self._name}: its steps cannot be held to {self._settings.build_pids} processes "
                f"(`images.build_pids`): {error.message}.",
                image=self._name,
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise engine_silent(error) from None

    async def overflow(self) -> str:
        """Return once the steps have written too much, with what to say of it."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            # The build's own stream tells when the engine is gone.
            with contextlib.suppress(DockerError, aiohttp.ClientError, OSError):
                await self._look()
            if sum(self._written.values()) > self._settings.build_disk_bytes:
                return (
                    f"{self._name}: its steps have written more than {self._settings.build_disk_bytes} bytes "
                    "(`images.build_disk_bytes`)."
                )

    async def _look(self) -> None:
        """See what the newest container has written so far."""
        if (container := next(reversed(self._written), None)) is not None:
            found = await self._inspect(await self._connect(), f"containers/{container}", size=True)
            self._written[container] = int(found.get("SizeRw") or self._written[container])

    async def _note(self, image: str) -> None:
        """See what a container that is over has left, if the image is of one: it may have been too quick for a look."""
        with contextlib.suppress(DockerError, aiohttp.ClientError, OSError):
            docker = await self._connect()
            found = await self._inspect(docker, f"images/{image}")
            # A step can print such a line, but has no image of its own while it prints.
            container = str(found.get("Container") or "")[:ID_CHARACTERS]
            if container in self._written and found.get("Parent"):
                before = await self._inspect(docker, f"images/{found['Parent']}")
                self._written[container] = int(found.get("Size") or 0) - int(before.get("Size") or 0)

    def _is_step(self, found: Mapping[str, Any]) -> bool:
        host: Mapping[str, Any] = found.get("HostConfig") or {}
        return (
            not host.get("PidsLimit")
            and host.get("Memory") == self._settings.build_memory_bytes
            and host.get("NetworkMode") == self._settings.build_network
        )

    async def _inspect(self, docker: Docker, what: str, *, size: bool = False) -> Mapping[str, Any]:
        url = f"{docker.docker_host}/{docker.api_version}/{what}/json"
        async with docker.session.get(url, params={"size": "1"} if size else {}) as response:
            found: Mapping[str, Any] = await response.json() if response.status == 200 else {}
            return found

    async def _bound(self, docker: Docker, container: str) -> None:
        url = f"{docker.docker_host}/{docker.api_version}/containers/{container}/update"
        since = anyio.current_time()
        while True:
            async with docker.session.post(url, json={"PidsLimit": self._settings.build_pids}) as response:
                said: Mapping[str, Any] = await response.json()
            if response.status < 400 or response.status in _OVER:
                break
            state: Mapping[str, Any] = (await self._inspect(docker, f"containers/{container}")).get("State") or {}
            # A short step may be over already, which the engine itself learns a moment after it has refused.
            if not state.get("Running"):
                return
            if anyio.current_time() > since + AGREE_SECONDS:
                raise DockerError(response.status, str(said.get("message")))
            await anyio.sleep(AGAIN_SECONDS)
        if said.get("Warnings"):
            _log.warning("build_step_not_bounded", image=self._name, detail=str(said["Warnings"])[:500])
