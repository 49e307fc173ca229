"""Files of a source, read so that nothing leads out of its folder: no link is followed, nothing but files is opened."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chronicled.events.errors import ImportRefused

__all__ = ["RECORD_BYTES_MAX", "Folder"]

RECORD_BYTES_MAX: Final = 64 << 20
"""Largest record, and largest page of records, that is read."""
FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Folder:
    """One folder, held open: names are looked up in it and nowhere else.

    Raises:
        ImportRefused: it cannot be opened, or is a link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise ImportRefused(f"{path} cannot be read: {_why(error)}.") from None

    def names(self) -> list[str]:
        """Return what is in it, in no order."""
        return os.listdir(self._descriptor)

    def read(self, name: str) -> tuple[bytes | None, str | None]:
        """Return the file's bytes; None and why it is not read where it is a link, no file, too large or unreadable."""
        try:
            descriptor = os.open(name, FLAGS, dir_fd=self._descriptor)
        except OSError as error:
            return None, _why(error)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return None, "is no file"
            if found.st_size > RECORD_BYTES_MAX:
                return None, f"has {found.st_size} bytes; {RECORD_BYTES_MAX} are read"
            data = os.read(descriptor, found.st_size + 1)
            if len(data) > found.st_size or len(data) < found.st_size:
                data = _whole(descriptor, data)
            return data, None
        except OSError as error:
            return None, _why(error)
        finally:
            os.close(descriptor)

    def holds(self, name: str, data: bytes) -> bool:
        """Tell whether the file of that name holds just these bytes, in fewer calls than reading it takes.

        Whatever else is there, also what cannot be read, is no: `read` says why.
        """
        try:
            descriptor = os.open(name, FLAGS, dir_fd=self._descriptor)
        except OSError:
            return False
        try:
            return os.read(descriptor, len(data) + 1) == data
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _whole(descriptor: int, data: bytes) -> bytes:
    """Return the rest too, of a file that one call does not give whole, or that grows."""
    parts, size = [data], len(data)
    while size <= RECORD_BYTES_MAX and (part := os.read(descriptor, 1 << 20)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _why(error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.EMLINK}:
        return "is a symbolic link, which is not followed"
    return (error.strerror or str(error)).lower()
