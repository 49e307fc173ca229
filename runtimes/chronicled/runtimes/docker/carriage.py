"""How the carrier comes to the engine: as a directory of this host, or as a volume that is filled through its API.

What no sandbox of anybody has any more is collected: carriers that a newer one of ours has taken the place of.
"""

from __future__ import annotations

import datetime
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import anyio.to_thread

from chronicled.runtimes.carrier import Carrier, carrier_archive, carriers, ensure_carrier
from chronicled.runtimes.carrier.place import remove_tree
from chronicled.runtimes.carrier.recipe import Architecture
from chronicled.runtimes.docker import labels, paths
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.errands import Errands
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.plan import Mount

if TYPE_CHECKING:
    from chronicled.runtimes.delivery.delivery import Delivery

__all__ = ["UNUSED_SECONDS", "VOLUME_SECONDS", "CarrierDirectory", "CarrierSource", "CarrierVolume"]

WHOLE: Final = "whole"
"""File of a volume that was filled to the end."""
UNUSED_SECONDS: Final = 86400.0
"""A directory from which a sandbox was started within so long is never collected."""
VOLUME_SECONDS: Final = 7 * 86400.0
"""A volume that was made within so long is never collected: another instance may use it, and would fill it again."""


class CarrierSource(Protocol):
    """Whoever has the carrier mounted."""

    async def mount(self, errands: Errands, facts: EngineFacts, image: str) -> Mount:
        """Return what to mount. `image` is one that the engine has.

        Raises:
            SandboxError: it cannot be made.
        """
        ...

    async def collect(self, engine: Engine) -> list[str]:
        """Remove carriers that are not the present one, and that no container and no process has; return them.

        Raises:
            SandboxError: what is in use cannot be told; then nothing was removed.
            OSError: one cannot be looked at.
        """
        ...


class CarrierDirectory:
    """Carriers in a directory of this host, made when first needed.

    Args:
        directory: Where they are kept.
        delivery: Units of third parties that go into them; None has none.
    """

    def __init__(self, directory: str, delivery: Delivery | None = None) -> None:
        self._directory = directory
        self._make = partial(ensure_carrier, units=_units_of(delivery))
        self._made: dict[str, Carrier] = {}
        self._making = anyio.Lock()

    async def mount(self, errands: Errands, facts: EngineFacts, image: str) -> Mount:
        """Return the carrier's directory to bind; see `CarrierSource.mount`."""
        carrier = await self.carrier(facts.architecture)
        # What the sandbox finds at the target must be this very directory: the image may have a link there.
        identity = await anyio.to_thread.run_sync(_used, carrier.path)
        return Mount(source=carrier.path, target=paths.CARRIER, read_only=True, identity=identity)

    async def carrier(self, architecture: str) -> Carrier:
        """Return the carrier of an architecture, made by one of all who ask.

        Raises:
            CarrierFailed, CarrierCorrupt: it cannot be made.
        """
        async with self._making:
            made = self._made.get(architecture)
            if made is None or await anyio.to_thread.run_sync(_used, made.path) is None:
                # Not abandoned when cancelled: the thread ends by itself, and the next to ask finds what it made.
                made = await anyio.to_thread.run_sync(self._make, self._directory, architecture)
                self._made[architecture] = made
            return made

    async def collect(self, engine: Engine) -> list[str]:
        """Remove directories; see `CarrierSource.collect`."""
        present = {carrier.path for carrier in self._made.values()}
        before = time.time() - UNUSED_SECONDS
        async with self._making:
            old = await anyio.to_thread.run_sync(_unused_since, self._directory, before)
            if not (old := [path for path in old if path not in present]):
                return []
            mounted = await engine.mounted()
            return await anyio.to_thread.run_sync(_remove_unseen, [path for path in old if path not in mounted])


class CarrierVolume:
    """Carriers in named volumes of the engine, for one that cannot see this host's folders.

    A volume is named by its carrier's digest and filled once, through the engine's archive API. Its last file says that
    it is whole: what a crash left half filled is filled again. Nothing of an image gets into it.

    Args:
        directory: Where the carriers are kept that the volumes are filled from.
    """

    def __init__(self, directory: CarrierDirectory) -> None:
        self._directory = directory
        self._filled: set[tuple[str, str]] = set()
        self._filling = anyio.Lock()
        self._present: set[str] = set()
        """Names of the volumes of carriers that this process has asked for."""

    async def mount(self, errands: Errands, facts: EngineFacts, image: str) -> Mount:
        """Return the volume to mount; see `CarrierSource.mount`.

        Raises:
            EngineRefused, EngineUnreachable: it could not be filled.
        """
        carrier = await self._directory.carrier(facts.architecture)
        name = f"chronicled-carrier-{carrier.digest.removeprefix('sha256-')[:32]}"
        marks = {labels.CARRIER: carrier.digest}
        async with self._filling:
            self._present.add(name)
            # Somebody may have removed it: mounted then, it would come into being again, empty and without its label.
            known = (facts.id, name) in self._filled and await errands.engine.volume_labels(name) == marks
            if not known:
                await errands.engine.make_volume(name, marks)
                await _fill(errands, name, carrier, image)
                self._filled.add((facts.id, name))
        return Mount(source=name, target=paths.CARRIER, read_only=True, type="volume")

    async def collect(self, engine: Engine) -> list[str]:
        """Remove volumes, and directories that they were filled from; see `CarrierSource.collect`."""
        removed = await self._directory.collect(engine)
        before = time.time() - VOLUME_SECONDS
        for name, made in (await engine.volumes(labels.CARRIER)).items():
            # One that a container has, running or not, the engine keeps.
            if name not in self._present and _moment(made) < before and await engine.remove_volume(name):
                removed.append(name)
        return removed


def _units_of(delivery: Delivery | None) -> Callable[[Architecture], dict[str, bytes]] | None:
    if delivery is None:
        return None
    from chronicled.runtimes.delivery.target import carried_target

    return lambda architecture: delivery.contents(carried_target(architecture))


def _used(folder: str) -> tuple[int, int] | None:
    """Note that a carrier is used, so that it is not collected soon, and return its inode; None where it is gone."""
    try:
        os.utime(folder)
        status = os.stat(folder)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _unused_since(directory: str, before: float) -> list[str]:
    return [carrier.path for carrier in carriers(directory) if os.stat(carrier.path).st_mtime < before]


def _remove_unseen(folders: Iterable[str]) -> list[str]:
    removed: list[str] = []
    for folder in sorted(set(folders) - _seen(folders)):
        # At once under another name: half of a carrier must never be mounted.
        aside = Path(folder).with_name(f".work-{os.urandom(4).hex()}")
        os.rename(folder, aside)
        os.chmod(aside, 0o700)
        remove_tree(aside)
        removed.append(folder)
    return removed


def _seen(folders: Iterable[str]) -> set[str]:
    """Return the folders that a process of this machine has as its carrier, whichever engine it is of."""
    identities: dict[tuple[int, int], str] = {}
    for folder in folders:
        status = os.stat(folder)
        identities[status.st_dev, status.st_ino] = folder
    found: set[str] = set()
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                status = os.stat(f"/proc/{process}/root{paths.CARRIER}")
            except OSError:
                continue
            here = identities.get((status.st_dev, status.st_ino))
            if here is not None:
                found.add(here)
    return found


def _moment(written: str) -> float:
    """Return a time as the engine writes it, in Unix seconds; now where it is none: nothing is old then."""
    try:
        return datetime.datetime.fromisoformat(f"{written[:19]}+00:00").timestamp()
    except ValueError:
        return time.time()


async def _fill(errands: Errands, volume: str, carrier: Carrier, image: str) -> None:
    # Never started: the engine's archive API reaches into a container that was only made.
    async with errands.run(image, volume, paths.CARRIER) as container:
        if not await errands.engine.has_path(container, f"{paths.CARRIER}/{WHOLE}"):
            pieces = carrier_archive(carrier.path)
            await errands.engine.put_archive(container, paths.CARRIER, _in_threads(pieces))
            await errands.engine.put_archive(container, paths.CARRIER, _whole())


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
        yield piece


def _whole() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(WHOLE))
    return buffer.getvalue()
