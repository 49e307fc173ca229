"""The cache of a carrier's two layers, so that a changed source of ours costs a fraction of a second.

Layers are made under temporary names and renamed; processes that want the same one at once wait for each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from chronicled.runtimes.carrier import base, bytecode, packages, recipe
from chronicled.runtimes.carrier.base import WHEELS, Base, close_modes, make_base
from chronicled.runtimes.carrier.bytecode import compile_tree
from chronicled.runtimes.carrier.closure import Sources
from chronicled.runtimes.carrier.failure import CarrierFailed
from chronicled.runtimes.carrier.listing import entries_of
from chronicled.runtimes.carrier.place import remove_tree, temporary_folder
from chronicled.runtimes.carrier.recipe import MOUNT_PATH, Architecture
from chronicled.runtimes.carrier.unit_bytecode import compile_units

__all__ = ["UNITS_PATH", "Cache", "Layer", "cache_directory"]

LOCK_SECONDS: Final = 900.0
UNUSED_SECONDS: Final = 30 * 86400.0
"""A layer that nobody has asked for in so long is removed when another is made."""
_TREE: Final = "tree"
_CONTENT: Final = "content.json"
_SITE: Final = "lib/site"
UNITS_PATH: Final = "lib/units"
"""Where units of third parties are, below the carrier."""


class Layer(msgspec.Struct, frozen=True):
    """One layer: a tree, and what is in it."""

    key: str
    tree: Path
    content: Base


def cache_directory(environment: Mapping[str, str], otherwise: Path) -> Path:
    """Return where layers are kept: systemd's `CACHE_DIRECTORY`, else the user's XDG cache directory, else `otherwise`.

    A service may have neither, nor a home.
    """
    if unit := environment.get("CACHE_DIRECTORY"):
        return Path(unit.split(":", 1)[0]) / "carrier"
    given, home = environment.get("XDG_CACHE_HOME", ""), environment.get("HOME", "")
    parent = Path(given) if os.path.isabs(given) else Path(home) / ".cache"
    standing = next((place for place in (parent, *parent.parents) if place.exists()), parent)
    if not parent.is_absolute() or not os.access(standing, os.W_OK):
        return otherwise
    return parent / "chronicled" / "carrier"


class Cache:
    """Layers by the digest of what they are made from.

    Args:
        directory: Where they are kept; made when it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def base(self, architecture: Architecture, *, fresh: bool = False) -> Layer:
        """Return the interpreter's layer, made if need be; `fresh` fetches the packages again.

        Raises:
            CarrierFailed: it cannot be made here.
        """
        key = _base_key(architecture)
        folder = self._directory / f"base-{key}-{architecture.name}"
        if not fresh and (layer := _read(key, folder)) is not None:
            return layer
        with self._lock(f"base-{architecture.name}"):
            if not fresh and (layer := _read(key, folder)) is not None:
                return layer
            with temporary_folder(self._directory) as work:
                made = work / "layer"
                tree = made / _TREE
                tree.mkdir(parents=True)
                content = make_base(architecture, tree, work, self._directory / f"apt-{architecture.name}")
                return _keep(key, made, content, folder, replace=True)

    def code(self, sources: Sources, below: Layer, architecture: Architecture) -> Layer:
        """Return the layer of our own modules, made if need be.

        Raises:
            CarrierFailed: a module does not compile.
        """
        key = _code_key(sources, below)
        folder = self._directory / f"code-{key}"
        if (layer := _read(key, folder)) is not None:
            return layer
        self._forget_unused()
        with temporary_folder(self._directory) as work:
            made = work / "layer"
            site = made / _TREE / _SITE
            for path, source in sources.items():
                (site / path).parent.mkdir(parents=True, exist_ok=True)
                (site / path).write_bytes(source)
            compile_tree(site, f"{MOUNT_PATH}/{_SITE}", below.tree, architecture)
            close_modes(made / _TREE)
            content = Base(packages={}, wheels={}, entries=entries_of(made / _TREE))
            return _keep(key, made, content, folder, replace=False)

    def units(self, files: Sources, below: Layer, architecture: Architecture) -> Layer:
        """Return the layer of units of third parties, made if need be.

        Raises:
            CarrierFailed: it cannot be made.
        """
        key = _code_key(files, below)
        folder = self._directory / f"units-{key}"
        if (layer := _read(key, folder)) is not None:
            return layer
        self._forget_unused()
        with temporary_folder(self._directory) as work:
            made = work / "layer"
            site = made / _TREE / UNITS_PATH
            site.mkdir(parents=True)
            for path, data in files.items():
                (site / path).parent.mkdir(parents=True, exist_ok=True)
                (site / path).write_bytes(data)
            compile_units(site, f"{MOUNT_PATH}/{UNITS_PATH}", below.tree, architecture)
            close_modes(made / _TREE)
            content = Base(packages={}, wheels={}, entries=entries_of(made / _TREE))
            return _keep(key, made, content, folder, replace=False)

    def drop(self, *layers: Layer) -> None:
        """Forget layers that turned out broken."""
        for layer in layers:
            remove_tree(layer.tree.parent)

    def _forget_unused(self) -> None:
        for pattern in ("base-*/", "code-*/", "units-*/"):
            for folder in self._directory.glob(pattern):
                with contextlib.suppress(OSError):
                    if folder.stat().st_mtime < time.time() - UNUSED_SECONDS:
                        remove_tree(folder)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Generator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + LOCK_SECONDS
        with open(self._directory / f"{name}.lock", "w", encoding="ascii") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise CarrierFailed(
                            f"Somebody has been making a carrier for {LOCK_SECONDS:.0f} s; end it and try again."
                        ) from None
                    time.sleep(0.05)
            yield


def _base_key(architecture: Architecture) -> str:
    hashed = hashlib.sha256(repr((architecture, [packages.wheel_version(name) for name in WHEELS])).encode())
    for module in (recipe, packages, base, bytecode):
        hashed.update(inspect.getsource(module).encode())
    return hashed.hexdigest()[:32]


def _code_key(sources: Sources, below: Layer) -> str:
    hashed = hashlib.sha256(f"{below.key}\n{sorted(below.content.packages.items())}".encode())
    for path, source in sorted(sources.items()):
        hashed.update(f"\n{path} {len(source)}\n".encode())
        hashed.update(source)
    return hashed.hexdigest()[:32]


def _read(key: str, folder: Path) -> Layer | None:
    try:
        content = msgspec.json.decode((folder / _CONTENT).read_bytes(), type=Base)
    except (OSError, msgspec.MsgspecError):
        return None
    with contextlib.suppress(OSError):
        # It is in use: see `_forget_unused`.
        os.utime(folder)
    return Layer(key, folder / _TREE, content)


def _keep(key: str, made: Path, content: Base, folder: Path, *, replace: bool) -> Layer:
    (made / _CONTENT).write_bytes(msgspec.json.encode(content))
    for _ in range(3):
        try:
            os.rename(made, folder)
        except OSError:
            # Somebody was faster: theirs is the same. Otherwise it goes out of the way.
            if not replace and (layer := _read(key, folder)) is not None:
                return layer
            with contextlib.suppress(OSError):
                os.rename(folder, made.with_name(f"former-{os.urandom(4).hex()}"))
        else:
            return Layer(key, folder / _TREE, content)
    raise CarrierFailed(f"{folder} cannot be put in place; remove it and try again.")
