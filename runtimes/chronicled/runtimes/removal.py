"""Removing what commands have left: trees of any depth and size, without following a link.

The usual way holds one call and one descriptor for each folder on the way down, and whoever made the tree decides how
many those are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from itertools import islice
from typing import Final

__all__ = ["remove_tree"]

NAMES_MAX: Final = 4096
"""Most entries of a folder that are looked at together."""
_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN: Final = 0o700
_TAKEN: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})


def remove_tree(path: str) -> bool:
    """Remove a folder or file, with all that is in it, made unreadable or not; return whether it is gone. Blocks.

    A folder within is moved up to the top before it is emptied, so that three are open at most. Idempotent; a removal
    that was cut short is gone on with. What cannot be removed stays, and nothing is raised for it.
    """
    with contextlib.suppress(OSError):
        try:
            top = _open(path)
        except NotADirectoryError:
            # A file, or a link, which goes as it is.
            os.unlink(path)
            return True
        try:
            _Emptying(top).run()
        finally:
            os.close(top)
        os.rmdir(path)
    return not os.path.lexists(path)


class _Emptying:
    """The emptying of one folder, the top."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._moved = 0

    def run(self) -> None:
        _each(self._top, self._empty_out)

    def _empty_out(self, name: str) -> None:
        """Remove an entry of the top."""
        folder = _open(name, self._top)
        try:
            _each(folder, lambda inner: self._move_up(folder, inner))
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=self._top)

    def _move_up(self, folder: int, name: str) -> None:
        # Its own entry for what is above it changes, so it has to be writable itself.
        os.close(_open(name, folder))
        while True:
            self._moved += 1
            try:
                # Onto nothing, or onto an empty folder: one is as good as the other.
                os.rename(name, f"{self._moved}.moved", src_dir_fd=folder, dst_dir_fd=self._top)
                return
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise


def _each(folder: int, take_away: Callable[[str], None]) -> None:
    """Unlink what is no folder, and have folders taken away, until nothing more can be."""
    progress = True
    while progress:
        progress = False
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, NAMES_MAX)]
        for name in names:
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                    take_away(name)
                else:
                    os.unlink(name, dir_fd=folder)
                progress = True


def _open(name: str, above: int | None = None) -> int:
    """Open a folder, and give its owner all rights to it first."""
    found = os.open(name, os.O_PATH | _FOLDER, dir_fd=above)
    try:
        here = f"/proc/self/fd/{found}"
        os.chmod(here, _OWN)
        return os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(found)
