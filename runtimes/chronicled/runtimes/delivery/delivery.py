"""The delivery: the executors of all loaded units, and the files that they need in a sandbox of any runtime."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from chronicled.events.errors import UnitBroken
from chronicled.runtimes.action_server.unit_executors import NamedExecutor
from chronicled.runtimes.carrier.closure import UNIT_ROOTS, closure
from chronicled.runtimes.delivery.contents import Files, files_of, files_of_module
from chronicled.runtimes.delivery.distributions import normal_name, release_of, required
from chronicled.runtimes.delivery.target import Target, own_target
from chronicled.runtimes.delivery.tree import place_tree

__all__ = ["Delivery", "ImportTree", "UnitParcel"]

BYTES_MAX: Final = 256 << 20
"""Of all files of all units."""
SITE: Final = "site"
UNITS: Final = "units"


class UnitParcel(NamedTuple):
    """What one unit wants in sandboxes."""

    owner: str
    executors: tuple[str, ...]
    distributions: tuple[str, ...]
    """Names; empty where it was loaded from a module that belongs to none."""

    @property
    def modules(self) -> set[str]:
        """Top-level modules that have its executors."""
        return {reference.partition(":")[0].partition(".")[0] for reference in self.executors}

    @property
    def release(self) -> str:
        """What is brought, for people and for the handshake."""
        releases = [release_of(importlib.metadata.distribution(name)) for name in self.distributions]
        return ", ".join(releases) or f"{self.owner} (no distribution)"


class ImportTree(NamedTuple):
    """Where the process runtime has all that a sandbox imports."""

    site: str
    """Our modules and msgspec."""
    units: str
    """The units' and what they require."""


class Delivery:
    """Brings units into sandboxes.

    Nothing else of this host's packages is ever seen there: the tree holds our own modules, the distributions that the
    units name, and those that these require.

    Args:
        directory: Where trees are kept, each named by its content.
        parcels: One a unit.
    """

    def __init__(self, directory: str, parcels: Iterable[UnitParcel]) -> None:
        self._directory = directory
        self._parcels = tuple(parcel for parcel in parcels if parcel.executors)
        self._tree: ImportTree | None = None
        self.executors = [
            NamedExecutor(parcel.owner, parcel.release, reference)
            for parcel in self._parcels
            for reference in parcel.executors
        ]
        """What an action server is told to load."""

    def contents(self, target: Target) -> dict[str, bytes]:
        """Return the units' files for an interpreter, by path below an import root. Blocks.

        Raises:
            UnitBroken: something is not installed, was compiled for another interpreter, cannot be read or is too much;
                names it and says what to do.
        """
        found: dict[str, bytes] = {}
        total = 0
        for parcel in self._parcels:
            for name, path in _files(parcel, target).items():
                try:
                    data = path.read_bytes()
                except OSError as error:
                    raise UnitBroken(
                        f"The unit {parcel.owner!r} needs {path}, which cannot be read: {error.strerror}.",
                        unit=parcel.owner,
                    ) from None
                if found.setdefault(name, data) is data and (total := total + len(data)) > BYTES_MAX:
                    raise UnitBroken(
                        f"The units need more than {BYTES_MAX >> 20} MiB of files in every sandbox; {parcel.owner!r} "
                        "goes beyond that: put large data into an image or a volume.",
                        unit=parcel.owner,
                    )
        return found

    def tree(self) -> ImportTree:
        """Return the folders of all that a sandbox of this interpreter imports; made once. Blocks.

        Raises:
            UnitBroken: as `contents`.
            OSError: they cannot be made.
        """
        # Somebody may have cleaned up.
        if self._tree is None or not os.path.isdir(self._tree.site):
            target = own_target()
            ours = closure(UNIT_ROOTS) | _read(_distribution_files("msgspec", target))
            contents = {f"{SITE}/{path}": data for path, data in ours.items()}
            contents |= {f"{UNITS}/{path}": data for path, data in self.contents(target).items()}
            path = place_tree(Path(self._directory), contents)
            self._tree = ImportTree(os.path.join(path, SITE), os.path.join(path, UNITS))
        return self._tree


def _files(parcel: UnitParcel, target: Target) -> Files:
    found: Files = {}
    roots = {normal_name(name) for name in parcel.distributions}
    for distribution in required(parcel.owner, parcel.distributions, target):
        own = normal_name(distribution.metadata["Name"]) in roots
        files = files_of(parcel.owner, distribution, parcel.modules if own else ())
        for path in files:
            if not target.loads(path):
                raise UnitBroken(
                    f"The unit {parcel.owner!r} needs {release_of(distribution)}, whose part {path} is compiled for "
                    f"another interpreter than that of sandboxes ({target.words}): install chronicled and the unit "
                    f"under Python {target.python} on such a machine, or do without that distribution.",
                    unit=parcel.owner,
                )
        found |= files
    for module in parcel.modules - {path.split("/")[0].removesuffix(".py") for path in found}:
        found |= files_of_module(parcel.owner, module)
    return found


def _distribution_files(name: str, target: Target) -> Files:
    files = files_of("chronicled", importlib.metadata.distribution(name))
    return {path: place for path, place in files.items() if target.loads(path)}


def _read(files: Mapping[str, Path]) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in files.items()}
