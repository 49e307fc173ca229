"""What Python's library does not offer of the kernel: prctl. Only the reapers load it (and ctypes with it)."""

from __future__ import annotations

import ctypes
import errno
import os

__all__ = ["adopt_orphans", "die_with_parent", "forbid_inspection"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def adopt_orphans() -> bool:
    """Make this process the parent of every descendant that loses its own, however it was detached.

    False where the kernel cannot (gVisor): orphans go to the first process of the sandbox.
    """
    given = ctypes.c_int(0)
    try:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        # To the sandbox's first process gVisor says yes, whose orphans they are anyway; but not to any other.
        if _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(given), 0, 0, 0) != 0:
            return False
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
    return given.value != 0


def die_with_parent(signal_number: int, parent: int) -> None:
    """Have the kernel send the signal to this process once its parent, process `parent`, has died."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        os._exit(1)


def forbid_inspection() -> None:
    """Keep other processes of the same user from this one's memory and descriptors, and from a core dump of it."""
    _prctl(_PR_SET_DUMPABLE, 0)
