"""Carriers in a directory: made when first asked for, found again by their content."""

from __future__ import annotations

import importlib.metadata
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from chronicled.events.errors import UnitBroken
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.carrier.cache import Cache, Layer, cache_directory
from chronicled.runtimes.carrier.closure import UNIT_ROOTS, Sources, closure
from chronicled.runtimes.carrier.failure import CarrierCorrupt, CarrierFailed
from chronicled.runtimes.carrier.listing import (
    MANIFEST_NAME,
    Entry,
    Manifest,
    digest_of,
    folder_name,
    read_manifest,
    verify,
)
from chronicled.runtimes.carrier.place import link_tree, remove_tree, temporary_folder
from chronicled.runtimes.carrier.recipe import Architecture, architecture_of

__all__ = ["Carrier", "carriers", "ensure_carrier"]

_FOLDER_MODE: Final = 0o555
_LAYERS_NAME: Final = "layers"

_verified: set[tuple[str, int, int]] = set()
"""Carriers that this process has checked: path, and the folder's identity."""


class Carrier(NamedTuple):
    """A carrier on this machine: mount `path` read-only at `MOUNT_PATH`."""

    path: str
    digest: str
    architecture: str
    protocol: int
    protocol_min: int


def ensure_carrier(
    directory: str | os.PathLike[str],
    architecture: str,
    *,
    cache: str | os.PathLike[str] | None = None,
    fresh: bool = False,
    units: Callable[[Architecture], Sources] | None = None,
) -> Carrier:
    """Return the carrier of the installed action server, made in `directory` if it is not there.

    It blocks: half a minute the first time on a machine, half a second when only our own code has changed, a tenth when
    it is there. Call it in a thread. Processes may do so at once: each gets a whole carrier or an error, and a crash
    leaves nothing that looks like one. Every byte is checked once in the life of a process.

    Args:
        directory: Where carriers are kept, a folder each; made when it is not there.
        architecture: Of the engine's processors: `amd64`, `arm64`, or as the kernel says.
        cache: Where the layers are kept from which carriers are made; a cache directory of the user's by default.
        fresh: Fetch the packages again, for their latest versions.
        units: Returns the files of units of third parties for an architecture; None brings none.

    Raises:
        CarrierFailed: it cannot be made; the detail says what to do.
        CarrierCorrupt: what was made does not verify, twice: the disk cannot be trusted.
    """
    target = architecture_of(architecture)
    store = Cache(cache_directory(os.environ, Path(directory) / _LAYERS_NAME) if cache is None else Path(cache))
    try:
        sources = closure() if units is None else closure(UNIT_ROOTS)
        brought = {} if units is None else units(target)
        for attempt in range(2):
            base = store.base(target, fresh=fresh or attempt > 0)
            layers = [base, store.code(sources, base, target)]
            if brought:
                layers.append(store.units(brought, base, target))
            try:
                return _assemble(Path(directory), target.name, layers)
            except (CarrierCorrupt, FileNotFoundError):
                # A damaged cache, or one that was cleaned meanwhile.
                if attempt:
                    raise
                store.drop(*layers)
        raise AssertionError("unreachable")
    except UnitBroken as error:
        raise CarrierFailed(error.detail) from error
    except OSError as error:
        name = error.filename or directory
        raise CarrierFailed(f"The carrier cannot be written: {error.strerror} ({name}).") from error


def carriers(directory: str | os.PathLike[str]) -> list[Carrier]:
    """Return the carriers in a directory, unchecked: what has a name and a manifest of one."""
    found: list[Carrier] = []
    for path in sorted(Path(directory).glob("sha256-*")):
        try:
            found.append(_carrier(path, read_manifest(path)))
        except CarrierCorrupt:
            continue
    return found


def _assemble(directory: Path, architecture: str, layers: Sequence[Layer]) -> Carrier:
    entries, base = _all_entries(*layers), layers[0]
    manifest = Manifest(
        architecture=architecture,
        build=importlib.metadata.version("chronicled"),
        protocol=frames.PROTOCOL,
        protocol_min=frames.PROTOCOL_MIN,
        packages=dict(sorted(base.content.packages.items())),
        wheels=base.content.wheels,
    )
    manifest = msgspec.structs.replace(manifest, digest=digest_of(manifest, entries))
    path = directory.absolute() / folder_name(manifest.digest, architecture)
    if _is_sound(path):
        return _carrier(path, manifest)
    with temporary_folder(directory.absolute()) as work:
        for layer in layers:
            link_tree(layer.tree, work)
        (work / MANIFEST_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(manifest, order="sorted")) + b"\n")
        os.chmod(work / MANIFEST_NAME, 0o444)
        for folder, _, _ in os.walk(work, topdown=False):
            os.chmod(folder, _FOLDER_MODE)
        try:
            os.rename(work, path)
        except OSError:
            # Somebody was faster; theirs is checked like ours.
            if not path.exists():
                raise
    if not _is_sound(path):
        raise CarrierCorrupt(f"{path} does not verify just after it was made: check the disk.")
    return _carrier(path, manifest)


def _all_entries(*layers: Layer) -> list[Entry]:
    found = {entry.path: entry for layer in layers for entry in layer.content.entries}
    # The layers' folders can be written to, those of the carrier cannot.
    return sorted(
        msgspec.structs.replace(entry, mode=stat.S_IFDIR | _FOLDER_MODE) if stat.S_ISDIR(entry.mode) else entry
        for entry in found.values()
    )


def _is_sound(path: Path) -> bool:
    """Return whether the carrier is there and verifies; a broken one is taken away."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    identity = (str(path), status.st_dev, status.st_ino)
    if identity in _verified:
        return True
    try:
        verify(path)
    except CarrierCorrupt:
        os.chmod(path, 0o700)
        remove_tree(path)
        return False
    _verified.add(identity)
    return True


def _carrier(path: Path, manifest: Manifest) -> Carrier:
    return Carrier(str(path), manifest.digest, manifest.architecture, manifest.protocol, manifest.protocol_min)
