"""What `list` does: names below a folder, page by page, in bounded memory however many there are."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from chronicled.events.kinds.files import FileEntry, ListFiles
from chronicled.runtimes.action_server.files.failure import BadArguments
from chronicled.runtimes.action_server.files.names import shown
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["PAGE_BYTES_MAX", "list_files"]

PAGE_BYTES_MAX: Final = 48 << 10
"""A page's entries, encoded: an event has room for them."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH: Final = 256
"""Names of one folder that are kept at a time, at least; a page never needs more."""

Type = Literal["file", "directory", "symlink", "fifo", "socket", "character_device", "block_device", "unknown"]
_TYPES: Final[dict[int, Type]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character_device",
    stat.S_IFBLK: "block_device",
}
Name = tuple[bytes, ...]


def list_files(arguments: ListFiles, work: Work) -> dict[str, Any]:
    """Return the observation's fields.

    Raises:
        OSError: the folder itself cannot be read.
        BadArguments: `after` is no name that a page could have ended with.
    """
    path = work.resolve(arguments.path)
    listing = _Listing(os.fsencode(path), arguments, work)
    entries: list[dict[str, Any]] = []
    size, truncated, following = 0, False, None
    for name in listing.names():
        entry = _entry(os.path.join(os.fsencode(path), *name), b"/".join(name))
        if entry is None:
            continue
        size += len(msgspec.json.encode(entry)) + 1
        if len(entries) == arguments.entries_max or (size > PAGE_BYTES_MAX and entries):
            truncated = True
            break
        entries.append(msgspec.to_builtins(entry))
        following = name
    return {
        "path": path,
        "entries": entries,
        "truncated": truncated,
        "next": _cursor(following) if truncated and following else None,
        "unreadable": listing.unreadable,
    }


class _Listing:
    def __init__(self, path: bytes, arguments: ListFiles, work: Work) -> None:
        self.unreadable = 0
        self._path = path
        self._depth = arguments.depth
        self._hidden = arguments.hidden
        self._work = work
        self._after = _name(arguments.after) if arguments.after is not None else ()
        self._batch = max(_BATCH, arguments.entries_max + 1)

    def names(self) -> Iterator[Name]:
        """Yield the names behind `after`, each folder before what is in it: the order of the tuples."""
        # The folder that was asked for must be readable; what is below it is counted where it is not.
        os.scandir(self._path).close()
        yield from self._below(())

    def _below(self, folder: Name) -> Iterator[Name]:
        last: bytes | None = None
        begins = self._after[: len(folder)] == folder and len(self._after) > len(folder)
        if begins:
            # Everything before that name, and the name itself, was shown; not so what is in it.
            last = self._after[len(folder)]
            yield from self._inside((*folder, last))
        while True:
            batch = self._read(folder, last)
            for name in batch:
                self._work.check()
                yield (*folder, name)
                yield from self._inside((*folder, name))
            if len(batch) < self._batch:
                return
            last = batch[-1]

    def _inside(self, name: Name) -> Iterator[Name]:
        if len(name) >= self._depth:
            return
        try:
            is_folder = stat.S_ISDIR(os.lstat(os.path.join(self._path, *name)).st_mode)
        except OSError:
            return
        if is_folder:
            yield from self._below(name)

    def _read(self, folder: Name, last: bytes | None) -> list[bytes]:
        try:
            with os.scandir(os.path.join(self._path, *folder)) as entries:
                found = (
                    entry.name
                    for entry in self._work.until_stopped(entries)
                    if (last is None or entry.name > last) and (self._hidden or not entry.name.startswith(b"."))
                )
                return heapq.nsmallest(self._batch, found)
        except OSError:
            self.unreadable += 1
            return []


def _entry(path: bytes, name: bytes) -> FileEntry | None:
    try:
        status = os.lstat(path)
        target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
    except OSError:
        return None  # gone meanwhile
    return FileEntry(
        **shown(name, "name"),
        type=_TYPES.get(stat.S_IFMT(status.st_mode), "unknown"),
        size=status.st_size,
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        modified=_time(status.st_mtime_ns),
        target=None if target is None else target.decode(errors="replace"),
    )


def _time(nanoseconds: int) -> str | None:
    try:
        time = _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if time.year >= 1000 else None


def _cursor(name: Name) -> str:
    text = b"/".join(name)
    try:
        return text.decode()
    except UnicodeDecodeError:
        # No UTF-8 name has a NUL in it, so this form cannot be taken for one.
        return "\0" + text.hex()


def _name(cursor: str) -> Name:
    try:
        data = bytes.fromhex(cursor[1:]) if cursor.startswith("\0") else cursor.encode()
    except ValueError:
        raise BadArguments("after is the `next` of the page before") from None
    name = tuple(data.split(b"/"))
    if any(each in {b"", b".", b".."} for each in name):
        raise BadArguments("after is a name relative to the folder, without empty parts, `.` or `..`")
    return name
