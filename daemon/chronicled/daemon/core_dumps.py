"""No core dumps of a process that holds secrets."""

from __future__ import annotations

__all__ = ["forbid_core_dumps"]

PR_SET_DUMPABLE = 4

_forbidden = False


def forbid_core_dumps() -> None:
    """Have the kernel write no core of this process, nor let others of its user trace it; children are not concerned.

    Done with the first secret and not before, since it also hides the process from its user's debuggers. Idempotent.
    """
    global _forbidden
    if not _forbidden:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        _forbidden = True
