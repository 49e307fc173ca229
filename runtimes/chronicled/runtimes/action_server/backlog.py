"""The backlog of an action's output: what was printed and is not yet in the worker's hands.

It stays in memory while the worker keeps up. What goes beyond that, because the worker is away or stands still, goes to
a file without a name that only this process can open, up to a cap that all actions share: a command never waits for us.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

__all__ = ["MEMORY_BYTES_MAX", "SPILL_BYTES_MAX", "Backlog", "SpillRoom"]

MEMORY_BYTES_MAX: Final = 2 << 20
"""Most bytes of one action's output that are kept in memory: more than a window of credit and a full pipe."""
MEMORY_BYTES_SUM: Final = 8 << 20
"""Most bytes of all outputs in memory."""
SPILL_BYTES_MAX: Final = 256 << 20
"""Most bytes of all outputs in files on a disk."""
SPILL_MEMORY_BYTES_MAX: Final = 32 << 20
"""The same where there is no disk: files in the sandbox's memory."""


class SpillRoom:
    """Counts what all backlogs hold, in memory and in files, and opens their files.

    Args:
        directories: Where they may be, best first; memory where none will do.
    """

    def __init__(self, directories: Sequence[str] = ()) -> None:
        self._directories = directories
        self._memory_used = 0
        self._used = 0
        self._bytes_max = SPILL_BYTES_MAX

    def take_memory(self, count: int) -> int:
        """Return how many of `count` bytes may stay in memory, and count them as used."""
        granted = max(0, min(count, MEMORY_BYTES_SUM - self._memory_used))
        self._memory_used += granted
        return granted

    def give_back_memory(self, count: int) -> None:
        """Count bytes in memory as free again."""
        self._memory_used -= count

    def open(self) -> int:
        """Return a descriptor of an empty file that has no name.

        Raises:
            OSError: there is none to be had.
        """
        for directory in self._directories:
            if _in_memory(directory):
                continue
            try:
                return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | os.O_EXCL, 0o600)
            except OSError:
                continue
        self._bytes_max = SPILL_MEMORY_BYTES_MAX
        return os.memfd_create("chronicled-backlog", os.MFD_CLOEXEC)

    def take(self, count: int) -> int:
        """Return how many of `count` bytes there is room for in files, and count them as used."""
        granted = max(0, min(count, self._bytes_max - self._used))
        self._used += granted
        return granted

    def give_back(self, count: int) -> None:
        """Count bytes in files as free again."""
        self._used -= count


class Backlog:
    """Bytes `base` to `end` of one action's output, in memory first, then in a file.

    Args:
        room: Where files come from.
    """

    def __init__(self, room: SpillRoom) -> None:
        self.base = 0
        self.end = 0
        self._room = room
        self._memory = bytearray()
        """What comes next after `base`."""
        self._descriptor = -1
        self._file_start = 0
        """Offset in the output of the file's first byte."""

    @property
    def spilled(self) -> bool:
        """Whether some of it is in a file."""
        return self._descriptor >= 0

    def append(self, data: memoryview) -> int:
        """Add bytes; return how many were kept: fewer where memory and file are full, or the file refused them."""
        count = 0
        if self._descriptor < 0:
            count = self._room.take_memory(min(len(data), MEMORY_BYTES_MAX - len(self._memory)))
            self._memory += data[:count]
            self.end += count
        return count + self._spill(data[count:]) if count < len(data) else count

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`, which is not before `base`; empty at the end."""
        start = offset - self.base
        if start < len(self._memory):
            return bytes(memoryview(self._memory)[start : start + count])
        count = min(count, self.end - offset)
        return os.pread(self._descriptor, count, offset - self._file_start) if count > 0 else b""

    def release(self, offset: int) -> None:
        """Forget what is before `offset`, which is not beyond `end`."""
        if offset > self.base:
            count = min(offset - self.base, len(self._memory))
            del self._memory[:count]
            self._room.give_back_memory(count)
            self.base = offset
            if offset == self.end and self._descriptor >= 0:
                self._room.give_back(self.end - self._file_start)
                os.close(self._descriptor)
                self._descriptor = -1

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self.release(self.end)

    def restart(self, offset: int) -> None:
        """Forget everything; what is added from now on begins at `offset`."""
        self.release(self.end)
        self.base = self.end = offset

    def _spill(self, data: memoryview) -> int:
        granted = self._room.take(len(data))
        done = 0
        try:
            if granted and self._descriptor < 0:
                self._descriptor = self._room.open()
                self._file_start = self.end
            while done < granted:
                done += os.pwrite(self._descriptor, data[done:granted], self.end + done - self._file_start)
        except OSError:
            self._room.give_back(granted - done)
        self.end += done
        return done


def _in_memory(directory: str) -> bool:
    """Return whether a directory's files are kept in memory, which is the sandbox's own and limited."""
    place, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields, _, rest = line.partition(" - ")
                point = fields.split(" ")[4]
                inside = directory == point or directory.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(place):
                    place, kind = point, rest.split(" ")[0]
    except (OSError, IndexError):
        return False
    return kind in {"tmpfs", "ramfs"}
