"""Replacing a file in one step: readers see the old bytes or the new ones, and a crash leaves one of them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Replaced", "create_file", "replace_file"]

_NOT_HERE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""No file can be made in the folder; the one that is there may still be writable."""
_NOT_MOVABLE: Final = frozenset({errno.EBUSY, errno.EXDEV})
"""Something is mounted in the file's place."""
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""The file system has no hard links."""
_COPY_BYTES: Final = 256 << 10


class Replaced(NamedTuple):
    """What a replacement did."""

    existed: bool
    bytes_written: int
    in_place: bool
    """It could not be done in one step: the folder is not writable, or the file is a mount of its own."""


def replace_file(path: str, data: Iterable[bytes], *, mode: int | None = None) -> Replaced:
    """Write the file, through a symbolic link to what it points at, as an editor would; make its folders.

    An existing file keeps its mode and, where the system lets us, its owner; a new one gets what the umask leaves. A
    device or pipe is written to and not replaced; without a reader a pipe is an error and not a wait.

    Raises:
        OSError: it cannot be written; a regular file then has its old bytes, unless it had to be written in place.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    before: os.stat_result | None = None
    with contextlib.suppress(FileNotFoundError):
        before = os.stat(path)
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if before is not None and not stat.S_ISREG(before.st_mode):
        return Replaced(True, _write_through(path, data, 0), False)
    temporary = os.path.join(directory, f".chronicled-{os.urandom(8).hex()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600)
    except OSError as problem:
        if before is None or problem.errno not in _NOT_HERE:
            raise
        return Replaced(True, _write_through(path, data, 0, cut=True), True)
    try:
        with open(descriptor, "r+b", buffering=0) as file:
            written = sum(_write(descriptor, piece) for piece in data)
            _set_mode(file.fileno(), mode, before)
            try:
                os.replace(temporary, path)
            except OSError as problem:
                if problem.errno not in _NOT_MOVABLE:
                    raise
                pieces = iter(lambda: os.read(descriptor, _COPY_BYTES), b"")
                os.lseek(descriptor, 0, os.SEEK_SET)
                _write_through(path, pieces, 0, cut=True)
                os.unlink(temporary)
                return Replaced(True, written, True)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    return Replaced(before is not None, written, False)


def create_file(path: str, data: bytes) -> None:
    """Write a new file, whole or not at all, and make its folders.

    Raises:
        FileExistsError: something has that name; it stays as it is.
        OSError: it cannot be written.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    temporary = os.path.join(directory, f".chronicled-{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666)
    try:
        _write(descriptor, data)
        try:
            # Unlike a rename it takes nobody's place.
            os.link(temporary, path, follow_symlinks=False)
        except OSError as problem:
            if problem.errno not in _NO_LINKS:
                raise
            _write_new(path, data, flags)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _write_new(path: str, data: bytes, flags: int) -> None:
    descriptor = os.open(path, flags, 0o666)
    try:
        _write(descriptor, data)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _set_mode(descriptor: int, mode: int | None, before: os.stat_result | None) -> None:
    if before is None:
        os.fchmod(descriptor, 0o666 & ~_umask() if mode is None else mode)
        return
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        try:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        except PermissionError:
            # Only root can give a file away: the writer becomes its owner, and a set-id bit would then mean another.
            os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777 if mode is None else mode)
            return
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode) if mode is None else mode)


def _write_through(path: str, data: Iterable[bytes], flags: int, *, cut: bool = False) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    try:
        written = sum(_write(descriptor, piece) for piece in data)
        if cut:
            os.ftruncate(descriptor, written)
    finally:
        os.close(descriptor)
    return written


def _write(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)


def _umask() -> int:
    # Asking the system for it would set it, for every thread.
    with contextlib.suppress(OSError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022
