"""Folders named by their content: made once, read-only, found again whole or made again."""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import os
import py_compile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from chronicled.runtimes.carrier.place import remove_tree, temporary_folder

__all__ = ["content_digest", "place_tree", "write_files"]

UNUSED_SECONDS: Final = 30 * 86400.0
"""A tree that nobody has asked for in so long is removed when another is made."""
_PREFIX: Final = "sha256-"


def content_digest(contents: Mapping[str, bytes]) -> str:
    """Return the SHA-256 over paths and bytes."""
    hashed = hashlib.sha256(b"chronicled units 1\n")
    for path, data in sorted(contents.items()):
        hashed.update(f"{path}\t{len(data)}\t{hashlib.sha256(data).hexdigest()}\n".encode())
    return hashed.hexdigest()


def place_tree(directory: Path, contents: Mapping[str, bytes]) -> Path:
    """Return a read-only folder with these files, compiled for this interpreter; made if it is not there. Blocks.

    Processes may do so at once; a crash leaves nothing that looks whole. What was changed is made again.

    Raises:
        OSError: it cannot be made.
    """
    path = directory.absolute() / f"{_PREFIX}{content_digest(contents)}"
    if path.exists():
        if _is_sound(path, contents):
            with contextlib.suppress(OSError):
                # It is in use: see `_forget_unused`.
                os.utime(path)
            return path
        os.chmod(path, 0o700)
        remove_tree(path)
    _forget_unused(directory)
    with temporary_folder(directory.absolute()) as work:
        write_files(work, contents)
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(str(work), quiet=2, stripdir=str(work), prependdir=str(path), invalidation_mode=mode)
        _close(work)
        try:
            os.rename(work, path)
        except OSError:
            # Somebody was faster: theirs is the same.
            if not path.exists():
                raise
    return path


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files below a folder.

    Raises:
        OSError: one cannot be written.
    """
    for relative, data in contents.items():
        place = folder / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def _is_sound(path: Path, contents: Mapping[str, bytes]) -> bool:
    try:
        return all((path / relative).read_bytes() == data for relative, data in contents.items())
    except OSError:
        return False


def _close(folder: Path) -> None:
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            os.chmod(os.path.join(path, name), 0o444)
        os.chmod(path, 0o555)


def _forget_unused(directory: Path) -> None:
    for folder in directory.glob(f"{_PREFIX}*/"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < time.time() - UNUSED_SECONDS:
                os.chmod(folder, 0o700)
                remove_tree(folder)
