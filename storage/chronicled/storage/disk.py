"""The real disk behind the `Disk` seam."""

from __future__ import annotations

import os

__all__ = ["SystemDisk"]


class SystemDisk:
    """The real disk."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Open `path`, close-on-exec."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of `data`, however many calls it takes."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Flush the file's data and size to the medium."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: str) -> None:
        """Flush the directory's entries to the medium."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: str, target: str) -> None:
        """Rename atomically over `target`."""
        os.replace(source, target)
