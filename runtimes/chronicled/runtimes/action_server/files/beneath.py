"""Opening folders below a root such that nothing outside of it can be reached, whatever is swapped meanwhile.

Names come from an archive, and a command in the sandbox may replace any folder by a symbolic link at any moment. So no
path is ever resolved twice: each folder is opened from the descriptor of the one above it, links not followed, by
`openat2` in one call or, where the kernel or its filter lacks that, part by part.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from chronicled.runtimes.action_server.files.failure import FileFailure

__all__ = ["Opener", "folder", "opener", "walk"]

_FOLDER_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_THE_WAY: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EXDEV})
_OPENAT2: Final = 437
_RESOLVE: Final = 0x04 | 0x08
"""RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH."""
_TRIES: Final = 16

Opener = Callable[[int, bytes], int]
"""Opens the folder of a relative path below a descriptor, as a place only (O_PATH). Raises OSError."""


def walk(root: int, path: bytes) -> int:
    """Open a folder part by part.

    Raises:
        OSError: a part is missing, or is no folder, a symbolic link among others.
    """
    at = os.open(b".", _FOLDER_FLAGS, dir_fd=root)
    for part in path.split(b"/"):
        above = at
        try:
            at = os.open(part, _FOLDER_FLAGS, dir_fd=above)
        finally:
            os.close(above)
    return at


def opener() -> Opener:
    """Return the best way of opening that works here."""
    try:
        by_call = _openat2()
        here = os.open(b"/", _FOLDER_FLAGS)
        try:
            os.close(by_call(here, b"."))
        finally:
            os.close(here)
    except (OSError, ImportError, AttributeError):
        return walk
    return by_call


def _openat2() -> Opener:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    class OpenHow(ctypes.Structure):
        _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    how = OpenHow(_FOLDER_FLAGS, 0, _RESOLVE)
    size = ctypes.c_size_t(ctypes.sizeof(how))

    def open_beneath(root: int, path: bytes) -> int:
        for _ in range(_TRIES):
            descriptor = int(libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_int(root), path, ctypes.byref(how), size))
            if descriptor >= 0:
                return descriptor
            number = ctypes.get_errno()
            # A rename somewhere raced with the kernel's look-up: it asks to be called again.
            if number not in {errno.EAGAIN, errno.EINTR}:
                raise OSError(number, os.strerror(number), os.fsdecode(path))
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), os.fsdecode(path))

    return open_beneath


def folder(open_: Opener, root: int, path: bytes) -> tuple[int, int]:
    """Open the folder below the root, made with its parents where it is missing; return it and how many were made.

    Raises:
        FileFailure: something that is no folder, such as a symbolic link, stands where one should be.
        OSError: a folder cannot be made.
    """
    if not path:
        return os.open(b".", _FOLDER_FLAGS, dir_fd=root), 0
    try:
        return open_(root, path), 0
    except FileNotFoundError:
        pass
    except OSError as problem:
        raise _translated(problem, path) from None
    at, made = os.open(b".", _FOLDER_FLAGS, dir_fd=root), 0
    parts = path.split(b"/")
    for index, part in enumerate(parts):
        above = at
        try:
            try:
                os.mkdir(part, 0o777, dir_fd=above)
                made += 1
            except FileExistsError:
                pass
            at = os.open(part, _FOLDER_FLAGS, dir_fd=above)
        except OSError as problem:
            raise _translated(problem, b"/".join(parts[: index + 1])) from None
        finally:
            os.close(above)
    return at, made


def _translated(problem: OSError, path: bytes) -> Exception:
    if problem.errno in _IN_THE_WAY:
        name = path.decode(errors="replace")
        return FileFailure("not_a_directory", f"{name} is no folder here (a symbolic link is none either)")
    return problem
