"""The lock that keeps a second daemon out of a data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chronicled.events.errors import DataDirectoryBusy, Refused

__all__ = ["LOCK_NAME", "DirectoryLock"]

LOCK_NAME: Final = "daemon.lock"


class DirectoryLock:
    """An exclusive lock on `daemon.lock` in a data directory, held until `release` or the end of the process.

    It is a file of its own: to open the database file outside SQLite and close it again would drop SQLite's own locks.
    The kernel lets go of it when the process ends, however it ends. Children do not inherit it.

    Raises:
        DataDirectoryBusy: another process (or another lock in this one) holds it; names the holder's pid.
        Refused: the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Refused(f"{directory / LOCK_NAME} cannot be written ({error.strerror}).") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise DataDirectoryBusy(f"Another daemon (pid {holder}) uses {directory}.") from None
        except BaseException:
            os.close(descriptor)
            raise
        # For the message above only; nobody trusts it, so a failure to write it does not matter.
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass
        self._descriptor: int | None = descriptor

    @property
    def held(self) -> bool:
        """Whether it is still held."""
        return self._descriptor is not None

    @property
    def displaced(self) -> bool:
        """Whether the directory's lock file is gone or another one: then this lock keeps nobody out any more."""
        if self._descriptor is None:
            return True
        own = os.fstat(self._descriptor)
        try:
            found = os.stat(self.directory / LOCK_NAME)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False  # nothing is known of it
        return (own.st_dev, own.st_ino) != (found.st_dev, found.st_ino)

    def release(self) -> None:
        """Let go of it; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
