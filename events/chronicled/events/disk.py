"""The disk, through one seam, so that a test can make any write or sync fail.

SQLite's own file access is below this seam; its faults are injected at the system call (tests/faults).
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Disk"]


class Disk(Protocol):
    """What blobs, journals and output files ask of the disk. All calls block: never on the event loop for big data."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Open `path` and return its descriptor (close-on-exec). Raises OSError."""
        ...

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`. Raises OSError; then an unknown part of it was written."""
        ...

    def sync(self, descriptor: int) -> None:
        """Return once the file's data is on the medium. Raises OSError; then nothing may be assumed."""
        ...

    def sync_directory(self, path: str) -> None:
        """Return once the directory's entries are on the medium. Raises OSError."""
        ...

    def replace(self, source: str, target: str) -> None:
        """Rename atomically over `target`. Raises OSError."""
        ...
