"""Which of the engine's images are ours to remove, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
import anyio
import structlog
from aiodocker import DockerError

from chronicled.events.errors import ImageError
from chronicled.runtimes.docker.images_errors import engine_silent
from chronicled.runtimes.docker.images_flight import Flights
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.images_ledger import Ledger
from chronicled.runtimes.docker.images_listing import CachedImage, listed
from chronicled.runtimes.docker.images_reference import BUILT_REGISTRY, owner_of, parse_reference
from chronicled.runtimes.docker.images_settings import ImageSettings
from chronicled.runtimes.docker.images_stream import Connect

__all__ = ["Cache"]

_log = structlog.get_logger("chronicled.images")


class Machine(Protocol):
    """What the cache needs to know of the engine."""

    async def machine(self) -> tuple[str, str]:
        """Return the engine's id and architecture."""
        ...


class Cache:
    """The images that are kept on an engine.

    Args:
        connect: Returns the engine's client.
        settings: What is kept, and for how long.
        machine: Tells which engine it is.
        ledger: Which images are ours.
        flights: What is on its way.
        now: Unix time.
    """

    def __init__(
        self,
        connect: Connect,
        settings: ImageSettings,
        machine: Machine,
        ledger: Ledger,
        flights: Flights[ResolvedImage],
        now: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._machine = machine
        self._ledger = ledger
        self._flights = flights
        self._now = now
        self._pruning = anyio.Lock()
        self._kept = frozenset(parse_reference(text).full for text in settings.prefetch)

    async def images(self, tenant: str) -> list[CachedImage]:
        """Return what images the engine has, without what other tenants have built.

        Raises:
            ImageUnreachable: the engine does not answer.
        """
        built, own = f"{BUILT_REGISTRY}/", f"{BUILT_REGISTRY}/{owner_of(tenant)}/"
        return [
            each
            for each in await self._listed()
            if not each.reference.startswith(built) or each.reference.startswith(own)
        ]

    async def _listed(self) -> list[CachedImage]:
        engine, _ = await self._machine.machine()
        return await listed(await self._connect(), self._ledger.entries, engine)

    async def prune(
        self, unused_seconds: float | None = None, bytes_max: int | None = None, tenant: str | None = None
    ) -> list[CachedImage]:
        """Remove images that we brought and nobody uses; return those that went.

        No container may be made from them, no pull of them be on its way, and none that is to be prefetched goes. What
        others brought, or have given another name, stays.

        Args:
            unused_seconds: For how long unused; None takes `keep_seconds`.
            bytes_max: Remove only as much, the longest unused first, as brings ours below that size.
            tenant: Spare what other tenants have built; None spares nobody.

        Raises:
            ImageUnreachable: the engine does not answer.
        """
        before = self._now() - (self._settings.keep_seconds if unused_seconds is None else unused_seconds)
        gone: list[CachedImage] = []
        async with self._pruning:
            images = await (self._listed() if tenant is None else self.images(tenant))
            ours = [image for image in images if image.origin != "found"]
            size = sum({image.id: image.size_bytes for image in ours}.values())
            for image in sorted(ours, key=lambda image: image.used or 0.0):
                if bytes_max is not None and size <= bytes_max:
                    break
                if self._may_go(image, before) and await self._remove(image):
                    size -= image.size_bytes
                    gone.append(image)
        return gone

    async def bound(self) -> None:
        """Bring what is ours below `cache_bytes_max`, as far as it may go."""
        if self._settings.cache_bytes_max is None:
            return
        try:
            await self.prune(bytes_max=self._settings.cache_bytes_max)
        except ImageError as error:
            # Room is made with the next one.
            _log.warning("cache_not_bounded", detail=error.detail)

    def _may_go(self, image: CachedImage, before: float) -> bool:
        flying = f"pull {image.reference}" in self._flights
        return (
            (image.used or 0.0) <= before and not image.containers and not flying and image.reference not in self._kept
        )

    async def _remove(self, image: CachedImage) -> bool:
        # Never by force: the engine keeps what somebody began to use meanwhile, or has given a name of his own.
        docker: Any = await self._connect()
        try:
            await docker.images.delete(image.reference)
        except DockerError as error:
            if error.status != 404:
                _log.info("image_kept", image=image.reference, detail=error.message)
                return False
        except (aiohttp.ClientError, OSError) as error:
            raise engine_silent(error) from None
        await self._ledger.drop(image.reference)
        return True
