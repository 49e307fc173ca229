"""The bytes that came with an upload, to be read at any place: as they came, or from a file without a name."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from chronicled.runtimes.action_server.files.failure import FileFailure
from chronicled.runtimes.action_server.files.regular import CHUNK_BYTES, chunks
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["Content"]

_TEMPORARY: Final = os.O_RDWR | os.O_CLOEXEC


class Content:
    """Bytes of a known size. Close it.

    Args:
        descriptor: Where they come from: a file, or a pipe; stays the caller's.
        size: How many they are.
        directory: Where they may be kept, without a name, if they come through a pipe.
        work: Says when to stop.

    Raises:
        FileFailure: they are fewer.
        OSError: there is no room for them.
    """

    def __init__(self, descriptor: int, size: int, directory: str, work: Work) -> None:
        self.size = size
        self._descriptor = descriptor
        self._kept = -1
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            self._descriptor = self._kept = _unnamed(directory)
            try:
                self._keep(descriptor, work)
            except BaseException:
                self.close()
                raise
        if (found := os.fstat(self._descriptor).st_size) != size:
            self.close()
            raise FileFailure("content_lost", f"only {found} of its {size} bytes came: upload it again")

    def read(self, offset: int, size: int) -> bytes:
        """Return so many bytes from the offset, fewer only at the end."""
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
            data += more
        return data

    def pieces(self, offset: int = 0, size: int | None = None) -> Iterator[bytes]:
        """Yield bytes from the offset, in pieces."""
        return chunks(self._descriptor, offset, size)

    def close(self) -> None:
        """Free what was kept. Idempotent."""
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1

    def _keep(self, source: int, work: Work) -> None:
        left = self.size
        while left and (data := os.read(source, min(CHUNK_BYTES, left))):
            work.check()
            left -= len(data)
            view = memoryview(data)
            while view:
                view = view[os.write(self._kept, view) :]


def _unnamed(directory: str) -> int:
    with contextlib.suppress(OSError):
        return os.open(directory, _TEMPORARY | os.O_TMPFILE, 0o600)
    # Not every file system has files without a name.
    path = os.path.join(directory, f".chronicled-{os.urandom(8).hex()}")
    descriptor = os.open(path, _TEMPORARY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(path)
    return descriptor
