"""How the carrier comes to the engine: as a directory of this host, or as a volume that is filled through its API."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread

from chronicled.runtimes.carrier import Carrier, carrier_archive, ensure_carrier
from chronicled.runtimes.docker import paths
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.plan import Mount

__all__ = ["CarrierDirectory", "CarrierSource", "CarrierVolume"]

WHOLE: Final = "whole"
"""File of a volume that was filled to the end."""


class CarrierSource(Protocol):
    """Whoever has the carrier mounted."""

    async def mount(self, engine: Engine, facts: EngineFacts, image: str) -> Mount:
        """Return what to mount. `image` is one that the engine has.

        Raises:
            SandboxError: it cannot be made.
        """
        ...


class CarrierDirectory:
    """Carriers in a directory of this host, made when first needed.

    Args:
        directory: Where they are kept.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._made: dict[str, Carrier] = {}
        self._making = anyio.Lock()

    async def mount(self, engine: Engine, facts: EngineFacts, image: str) -> Mount:
        """Return the carrier's directory to bind; see `CarrierSource.mount`."""
        carrier = await self.carrier(facts.architecture)
        return Mount(source=carrier.path, target=paths.CARRIER, read_only=True)

    async def carrier(self, architecture: str) -> Carrier:
        """Return the carrier of an architecture, made by one of all who ask.

        Raises:
            CarrierFailed, CarrierCorrupt: it cannot be made.
        """
        async with self._making:
            if architecture not in self._made:
                # Not abandoned when cancelled: the thread ends by itself, and the next to ask finds what it made.
                self._made[architecture] = await anyio.to_thread.run_sync(ensure_carrier, self._directory, architecture)
            return self._made[architecture]


class CarrierVolume:
    """Carriers in named volumes of the engine, for one that cannot see this host's folders.

    A volume is named by its carrier's digest and filled once, through the engine's archive API. Its last file says that
    it is whole: what a crash left half filled is filled again.

    Args:
        directory: Where the carriers are kept that the volumes are filled from.
    """

    def __init__(self, directory: CarrierDirectory) -> None:
        self._directory = directory
        self._filled: dict[tuple[str, str], str] = {}
        self._filling = anyio.Lock()

    async def mount(self, engine: Engine, facts: EngineFacts, image: str) -> Mount:
        """Return the volume to mount; see `CarrierSource.mount`.

        Raises:
            EngineRefused, EngineUnreachable: it could not be filled.
        """
        carrier = await self._directory.carrier(facts.architecture)
        key = facts.id, carrier.digest
        async with self._filling:
            if key not in self._filled:
                name = f"chronicled-carrier-{carrier.digest.removeprefix('sha256-')[:32]}"
                await _fill(engine, name, carrier, image)
                self._filled[key] = name
            return Mount(source=self._filled[key], target=paths.CARRIER, read_only=True, type="volume")


async def _fill(engine: Engine, volume: str, carrier: Carrier, image: str) -> None:
    # Never started: the engine's archive API reaches into a container that was only made.
    body: dict[str, Any] = {
        "Image": image,
        "Cmd": ["/"],
        "NetworkDisabled": True,
        "HostConfig": {
            "Mounts": [{"Type": "volume", "Source": volume, "Target": paths.CARRIER}],
            "NetworkMode": "none",
        },
    }
    name = f"{volume}-{os.urandom(4).hex()}"
    container = ""
    try:
        with anyio.CancelScope(shield=True):
            container = await engine.create(name, body)
        if not await engine.has_path(container, f"{paths.CARRIER}/{WHOLE}"):
            await engine.put_archive(container, paths.CARRIER, _in_threads(carrier_archive(carrier.path)))
            await engine.put_archive(container, paths.CARRIER, _whole())
    finally:
        if container:
            with anyio.CancelScope(shield=True):
                await engine.remove(container)


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
        yield piece


def _whole() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(WHOLE))
    return buffer.getvalue()
