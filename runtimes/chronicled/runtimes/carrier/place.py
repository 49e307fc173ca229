"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Final

__all__ = ["link_tree", "remove_tree", "temporary_folder"]

STALE_SECONDS: Final = 3600.0
_PREFIX: Final = ".work-"


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Generator[Path]:
    """Give a folder in `parent` (made if need be) that is gone afterwards unless it was renamed.

    What a killed process has left there an hour ago goes too.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - STALE_SECONDS:
                remove_tree(left)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        yield folder
    finally:
        remove_tree(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder, read-only ones in it too. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        if not os.path.islink(folder):
            os.chmod(folder, 0o700)
    for path, folders, _ in os.walk(folder):
        for name in folders:
            with contextlib.suppress(OSError):
                if not os.path.islink(os.path.join(path, name)):
                    os.chmod(os.path.join(path, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def link_tree(source: Path, target: Path) -> None:
    """Put the files of `source` into `target` too, which may hold others: as links on the same disk, else as copies.

    Raises:
        OSError: something cannot be read or written.
    """
    linking = True
    for folder, folders, names in os.walk(source):
        into = target / os.path.relpath(folder, source)
        into.mkdir(parents=True, exist_ok=True)
        for name in folders + names:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                os.symlink(os.readlink(path), into / name)
            elif name in names:
                if linking:
                    try:
                        os.link(path, into / name)
                        continue
                    except OSError:
                        # Another file system, or one without links.
                        linking = False
                shutil.copy2(path, into / name)
