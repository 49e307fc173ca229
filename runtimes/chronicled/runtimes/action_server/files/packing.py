"""Packing a tree into an archive, piece by piece; what is swapped meanwhile cannot make it look outside."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from chronicled.runtimes.action_server.files.archive_rules import DEPTH_MAX, ENTRIES_MAX, PATH_BYTES_MAX, inside
from chronicled.runtimes.action_server.files.failure import FileFailure, reason_of
from chronicled.runtimes.action_server.files.regular import chunks
from chronicled.runtimes.action_server.files.tar import END, Member, header, padding
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["LEFT_OUT_MAX", "Packing"]

LEFT_OUT_MAX: Final = 100
"""How many of the names that are left out are told; all are counted."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


class Packing:
    """One archive in the making: the same tree gives the same bytes."""

    def __init__(self, work: Work) -> None:
        self.entries = 0
        self.bytes_read = 0
        self.left_out: list[dict[str, str]] = []
        self.left_out_count = 0
        self._work = work

    def tree(self, path: str) -> Iterator[bytes]:
        """Yield the archive of what is in a folder, or of one file.

        Raises:
            FileFailure: it is neither, or there is too much in it.
            OSError: it cannot be read.
        """
        if os.path.isdir(path):
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield from self._folder(root, b"", 0)
            finally:
                os.close(root)
        else:
            real = os.path.realpath(path)
            place = os.open(os.path.dirname(real), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                status = os.stat(os.path.basename(real), dir_fd=place, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise FileFailure("not_regular", f"neither a folder nor a regular file: {path}")
                name = os.fsencode(os.path.basename(path.rstrip("/")))
                yield from self._file(place, os.fsencode(os.path.basename(real)), name)
            finally:
                os.close(place)
        yield END

    def _folder(self, descriptor: int, prefix: bytes, depth: int) -> Iterator[bytes]:
        for name in self._names(descriptor):
            self._work.check()
            path = prefix + name
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if len(path) > PATH_BYTES_MAX:
                    self._leave_out(path, "name_too_long")
                elif stat.S_ISREG(status.st_mode):
                    yield from self._file(descriptor, name, path)
                elif stat.S_ISDIR(status.st_mode):
                    yield from self._enter(descriptor, name, path, depth)
                elif stat.S_ISLNK(status.st_mode):
                    yield from self._link(descriptor, name, path, depth, int(status.st_mtime))
                else:
                    self._leave_out(path, "special_file")
            except FileNotFoundError:
                self._leave_out(path, "vanished")
            except OSError as problem:
                self._leave_out(path, reason_of(problem))

    def _names(self, descriptor: int) -> list[bytes]:
        names: list[bytes] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                names.append(os.fsencode(entry.name))
                if len(names) > ENTRIES_MAX:
                    raise _too_many()
        return sorted(names)

    def _enter(self, above: int, name: bytes, path: bytes, depth: int) -> Iterator[bytes]:
        if depth >= DEPTH_MAX:
            self._leave_out(path, "too_deep")
            return
        descriptor = os.open(name, _FOLDER, dir_fd=above)
        try:
            status = os.fstat(descriptor)
            mode = stat.S_IMODE(status.st_mode) & 0o777
            yield self._header(Member(path + b"/", "directory", 0, mode, int(status.st_mtime)))
            yield from self._folder(descriptor, path + b"/", depth + 1)
        finally:
            os.close(descriptor)

    def _link(self, folder: int, name: bytes, path: bytes, depth: int, mtime: int) -> Iterator[bytes]:
        target = os.readlink(name, dir_fd=folder)
        if inside(target, depth):
            yield self._header(Member(path, "symlink", 0, 0o777, mtime, target))
        else:
            self._leave_out(path, "link_outside")

    def _file(self, folder: int, name: bytes, path: bytes) -> Iterator[bytes]:
        descriptor = os.open(name, _FILE, dir_fd=folder)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self._leave_out(path, "special_file")
                return
            mode = stat.S_IMODE(status.st_mode) & 0o777
            yield self._header(Member(path, "file", status.st_size, mode, int(status.st_mtime)))
            yield from self._content(descriptor, path, status)
        finally:
            os.close(descriptor)

    def _content(self, descriptor: int, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        left = status.st_size
        try:
            for piece in self._work.until_stopped(chunks(descriptor, 0, status.st_size)):
                left -= len(piece)
                self.bytes_read += len(piece)
                yield piece
        except OSError as problem:
            self._leave_out(path, reason_of(problem))
        else:
            now = os.fstat(descriptor)
            if left or (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                self._leave_out(path, "changed")
        # The header has told how much comes: what is missing is made up for.
        while left:
            yield bytes(min(left, 1 << 16))
            left -= min(left, 1 << 16)
        yield bytes(padding(status.st_size))

    def _header(self, member: Member) -> bytes:
        self.entries += 1
        if self.entries > ENTRIES_MAX:
            raise _too_many()
        return header(member)

    def _leave_out(self, path: bytes, reason: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < LEFT_OUT_MAX:
            self.left_out.append({"name": path[:400].decode(errors="replace"), "reason": reason})


def _too_many() -> FileFailure:
    return FileFailure("too_many_entries", f"there are more than {ENTRIES_MAX} entries: bring parts of it")
