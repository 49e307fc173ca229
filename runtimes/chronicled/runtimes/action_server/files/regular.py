"""Opening a regular file, whatever may stand in its place: a pipe, a device or a socket never blocks and is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from chronicled.runtimes.action_server.files.failure import FileFailure

__all__ = ["CHUNK_BYTES", "check_regular", "chunks", "open_regular"]

CHUNK_BYTES: Final = 256 << 10
"""One read; a multiple of every width of a character."""


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Return a descriptor for reading, which is the caller's to close, and the file's status.

    Raises:
        FileFailure: it is no regular file.
        OSError: it cannot be opened.
    """
    # A place on the path opens nothing: what would wait for a peer, or do something when opened, is told before that.
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        check_regular(os.fstat(place), path)
        try:
            descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            # No /proc here, or the file was deleted meanwhile.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        status = os.fstat(descriptor)
        check_regular(status, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def check_regular(status: os.stat_result, path: str) -> None:
    """Raise unless it is a regular file.

    Raises:
        FileFailure: it is none.
        IsADirectoryError: it is a directory.
    """
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "Is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise FileFailure("not_regular", f"Not a regular file: {path}")


def chunks(descriptor: int, offset: int = 0, bytes_max: int | None = None) -> Iterator[bytes]:
    """Yield a file's bytes from `offset`, at most `bytes_max` of them."""
    left = bytes_max
    while left is None or left > 0:
        data = os.pread(descriptor, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left), offset)
        if not data:
            return
        yield data
        offset += len(data)
        left = None if left is None else left - len(data)
