"""Room on the disk that is kept for bad times: a file that takes space and gives it back piece by piece."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["RESERVE_BYTES", "Reserve"]

RESERVE_BYTES: Final = 8 << 20
STEP_BYTES: Final = 512 << 10


class Reserve:
    """A preallocated file beside the log.

    When the disk is full, a piece of it is given up just before a write that must get through: others on the same disk
    can take no more than that piece. All calls block.
    """

    def __init__(self, path: Path, size: int = RESERVE_BYTES) -> None:
        self._path = path
        self._size = size

    def refill(self) -> bool:
        """Take the whole room again; return False, and keep what there was, when the disk has not enough."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            before = os.fstat(descriptor).st_size
            if before < self._size:
                try:
                    os.posix_fallocate(descriptor, before, self._size - before)
                except OSError:
                    os.ftruncate(descriptor, before)
                    return False
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def release(self) -> bool:
        """Give up one piece; return False when nothing is left."""
        try:
            size = self._path.stat().st_size
            if size == 0:
                return False
            os.truncate(self._path, max(0, size - STEP_BYTES))
        except OSError:
            return False
        return True
