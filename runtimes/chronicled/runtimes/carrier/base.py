"""The carrier's base: interpreter, loader, libraries, shell and utilities, from packages. Takes half a minute, once."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from chronicled.runtimes.carrier import packages, recipe
from chronicled.runtimes.carrier.bytecode import compile_tree
from chronicled.runtimes.carrier.command import find_program, run_program
from chronicled.runtimes.carrier.failure import CarrierFailed
from chronicled.runtimes.carrier.listing import Entry, entries_of
from chronicled.runtimes.carrier.recipe import MOUNT_PATH, PYTHON, Architecture

__all__ = ["WHEELS", "Base", "make_base"]

WHEELS: Final = ("msgspec",)
_PATCHELF_ADVICE: Final = "install patchelf"
_TREE_ADVICE: Final = "report it: the packages are not what the recipe takes them for"
_PRELOAD_PATH: Final = b"/etc/ld.so.preload\0"
_CACHE_PATH: Final = b"/etc/ld.so.cache\0"


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a base in the cache."""

    packages: dict[str, str]
    wheels: dict[str, str]
    entries: list[Entry]


def make_base(architecture: Architecture, tree: Path, work: Path, apt_state: Path) -> Base:
    """Make the base in an empty folder; return what is in it.

    Args:
        architecture: For which processors.
        tree: Where to make it.
        work: A folder for what is only needed meanwhile.
        apt_state: Where apt keeps its lists; may be there from the last time.

    Raises:
        CarrierFailed: a program or package is missing, or the network is away.
        OSError: the disk.
    """
    find_program("patchelf", _PATCHELF_ADVICE)
    unpacked, site = work / "unpacked", work / "site"
    versions = packages.fetch_packages(tuple(recipe.PACKAGES), architecture.name, apt_state, unpacked)
    wheels = {project: packages.wheel_version(project) for project in WHEELS}
    for project, version in wheels.items():
        packages.fetch_wheel(project, version, architecture, site)
    _place_programs(unpacked, tree)
    _place_library(unpacked, tree / "lib" / PYTHON)
    for folder in site.glob("*.dist-info"):
        shutil.rmtree(folder)
    shutil.copytree(site, tree / "lib/site")
    _place_shared(unpacked, tree, architecture)
    _patch(tree, architecture)
    compile_tree(tree / "lib", f"{MOUNT_PATH}/lib", tree, architecture)
    (tree / "run").mkdir()
    close_modes(tree)
    return Base(packages=versions, wheels=wheels, entries=entries_of(tree))


def close_modes(tree: Path) -> None:
    """Give every file its final permissions: readable to all, writable to nobody. Folders stay open for now."""
    for folder, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o555 if os.stat(path).st_mode & 0o100 else 0o444)


def _place_programs(unpacked: Path, tree: Path) -> None:
    (tree / "bin").mkdir(parents=True)
    for source, name in ((f"usr/bin/{PYTHON}", "python3"), ("bin/bash-static", "bash"), ("bin/busybox", "busybox")):
        shutil.copyfile(_existing(unpacked / source), tree / "bin" / name)
        os.chmod(tree / "bin" / name, 0o755)
    applets = tree / "lib/applets"
    applets.mkdir(parents=True)
    for name in recipe.APPLETS.split():
        os.symlink("../../bin/busybox", applets / name)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise CarrierFailed(f"{path} is not in the packages; {_TREE_ADVICE}.")
    return path


def _place_library(unpacked: Path, library: Path) -> None:
    source = _existing(unpacked / "usr/lib" / PYTHON)
    for pattern in " ".join(recipe.PRUNED).split():
        for path in list(source.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    shutil.copytree(source, library, ignore_dangling_symlinks=True)


def _place_shared(unpacked: Path, tree: Path, architecture: Architecture) -> None:
    """Copy every shared library that something in the tree needs, and what those need."""
    patchelf = find_program("patchelf", _PATCHELF_ADVICE)
    waiting = [tree / "bin/python3", *(tree / "lib").rglob("*.so")]
    done = {architecture.loader}
    _copy_library(unpacked, tree, architecture.loader)
    os.chmod(tree / "lib" / architecture.loader, 0o755)
    for name in recipe.LIBRARIES:
        done.add(name)
        waiting.append(_copy_library(unpacked, tree, name))
    while waiting:
        needed = run_program([patchelf, "--print-needed", waiting.pop()], _TREE_ADVICE).split()
        for name in needed:
            if name not in done:
                done.add(name)
                waiting.append(_copy_library(unpacked, tree, name))


def _copy_library(unpacked: Path, tree: Path, name: str) -> Path:
    # The loader's usual link points to an absolute path, which is not there: take the file that is.
    for path in unpacked.rglob(name):
        with contextlib.suppress(FileNotFoundError):
            return Path(shutil.copyfile(path.resolve(strict=True), tree / "lib" / name))
    raise CarrierFailed(f"The library {name} is not in the packages; {_TREE_ADVICE}.")


def _patch(tree: Path, architecture: Architecture) -> None:
    """Bind the interpreter to its own loader and libraries, wherever and with whatever environment it is started."""
    # RPATH and not RUNPATH: it also holds for what libraries load, and goes before LD_LIBRARY_PATH.
    loader = f"{MOUNT_PATH}/lib/{architecture.loader}"
    options = ["--set-interpreter", loader, "--force-rpath", "--set-rpath", f"{MOUNT_PATH}/lib"]
    run_program([find_program("patchelf", _PATCHELF_ADVICE), *options, tree / "bin/python3"], _TREE_ADVICE)
    # What the image preloads or caches is for the image's programs: the carried loader looks elsewhere, at nothing.
    path = tree / "lib" / architecture.loader
    content = path.read_bytes()
    for name in (_PRELOAD_PATH, _CACHE_PATH):
        if content.count(name) != 1:
            raise CarrierFailed(f"The loader does not name {name.decode()[:-1]} once; {_TREE_ADVICE}.")
        nothing = f"{MOUNT_PATH}/".encode().ljust(len(name) - 1, b"-")
        content = content.replace(name, nothing + b"\0")
    path.write_bytes(content)
