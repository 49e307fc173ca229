"""A disk that notes what is asked of it, and fails where it is told to."""

from __future__ import annotations

import errno
import os

from chronicled.storage.disk import SystemDisk

__all__ = ["WatchedDisk"]


class WatchedDisk(SystemDisk):
    """Notes every call, and fails the n-th with an error of choice."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.error = errno.EIO

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if len(self.calls) == self.fail_at:
            raise OSError(self.error, os.strerror(self.error))

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Note it, then do it."""
        self._note("open")
        return super().open(path, flags, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        """Note it, then do it; a failing write leaves half of the data behind."""
        try:
            self._note("write")
        except OSError:
            super().write(descriptor, data[: len(data) // 2])
            raise
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Note it, then do it."""
        self._note("sync")
        super().sync(descriptor)

    def sync_directory(self, path: str) -> None:
        """Note which directory, then do it."""
        self._note("sync_directory " + os.path.basename(path))
        super().sync_directory(path)

    def replace(self, source: str, target: str) -> None:
        """Note it, then do it."""
        self._note("replace")
        super().replace(source, target)
