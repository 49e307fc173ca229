"""How the carrier comes to the engine: as a directory of this host, or as a volume that is filled through its API."""

from __future__ import annotations

from typing import Final, Protocol

import anyio
import anyio.to_thread

from chronicled.runtimes.carrier import Carrier, ensure_carrier
from chronicled.runtimes.docker import paths
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.plan import Mount

__all__ = ["CarrierDirectory", "CarrierSource"]

MAKE_SECONDS: Final = 300.0


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
