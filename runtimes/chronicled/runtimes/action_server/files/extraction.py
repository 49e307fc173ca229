"""Extracting an archive below a folder, while commands in the sandbox may do to that folder whatever they like."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import Final, NamedTuple

from chronicled.runtimes.action_server.files.archive_rules import ArchiveRules, relative
from chronicled.runtimes.action_server.files.beneath import Opener, folder, opener
from chronicled.runtimes.action_server.files.content import Content
from chronicled.runtimes.action_server.files.failure import FileFailure, reason_of
from chronicled.runtimes.action_server.files.tar import BrokenArchive, Member, members, shown
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["Extracted", "extract"]

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TIME_MAX: Final = 1 << 40

Make = Callable[[bytes], None]


class Extracted(NamedTuple):
    """What was put there."""

    entries: int
    bytes_written: int


def extract(content: Content, root: int, work: Work) -> Extracted:
    """Check every member of the archive, then write them below the root.

    Raises:
        FileFailure: the archive holds what is not taken, and nothing was written; or a member could not be written, and
            `stopped_at` names it.
        Stopped: the action is to end.
    """
    try:
        rules = ArchiveRules()
        for member in work.until_stopped(members(content.read)):
            rules.admit(member)
            if member.offset + member.size > content.size:
                raise BrokenArchive(f"it breaks off in {shown(member.name)}")
    except BrokenArchive as problem:
        raise FileFailure("archive_refused", f"the archive was refused, and nothing was written: {problem}") from None
    extraction = _Extraction(content, root, work)
    try:
        extraction.run()
    except BrokenArchive as problem:
        raise extraction.changed(problem) from None
    finally:
        extraction.close()
    return Extracted(extraction.entries, extraction.bytes_written)


class _Extraction:
    def __init__(self, content: Content, root: int, work: Work) -> None:
        self.entries = 0
        self.bytes_written = 0
        self._content = content
        self._root = root
        self._work = work
        self._open: Opener = opener()
        self._rules = ArchiveRules()
        self._parent: tuple[bytes, int] | None = None

    def run(self) -> None:
        for member in self._work.until_stopped(members(self._content.read)):
            # The bytes may have changed since they were checked: what is done is judged again.
            path = self._rules.admit(member)
            if not path:
                continue
            try:
                self._put(member, path)
            except OSError as problem:
                message = f"{problem.strerror or problem}: {shown(path)}"
                raise self._failure(reason_of(problem), message, path) from None
            except FileFailure as problem:
                raise self._failure(problem.reason, problem.message, path) from None

    def close(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def changed(self, problem: BrokenArchive) -> FileFailure:
        """Return the failure of an archive that was another when it was checked."""
        told = f"the archive has changed since it was checked: {problem}; {self.entries} entries were written before it"
        return FileFailure("archive_refused", told, entries=self.entries, bytes_written=self.bytes_written)

    def _failure(self, reason: str, message: str, path: bytes) -> FileFailure:
        told = f"{message}; {self.entries} entries were written before it"
        stopped = path.decode(errors="replace")
        return FileFailure(reason, told, stopped_at=stopped, entries=self.entries, bytes_written=self.bytes_written)

    def _put(self, member: Member, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        parent = self._folder(above)
        match member.type:
            case "directory":
                self.entries += _make_folder(parent, name, member.mode)
            case "file":
                self._write(parent, name, member)
                self.entries += 1
            case "symlink":
                _rename_over(parent, name, lambda temporary: os.symlink(member.target, temporary, dir_fd=parent))
                self.entries += 1
            case "hard_link":
                self._link(parent, name, member.target)
                self.entries += 1

    def _folder(self, path: bytes) -> int:
        # Members of one folder mostly follow each other. The descriptor is of a folder that was below the root.
        if self._parent is not None:
            if self._parent[0] == path:
                return self._parent[1]
            self.close()
        descriptor, made = folder(self._open, self._root, path)
        self.entries += made
        self._parent = (path, descriptor)
        return descriptor

    def _write(self, parent: int, name: bytes, member: Member) -> None:
        def make(temporary: bytes) -> None:
            descriptor = os.open(temporary, _NEW_FILE, 0o600, dir_fd=parent)
            try:
                for piece in self._work.until_stopped(self._content.pieces(member.offset, member.size)):
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    self.bytes_written += len(piece)
                os.fchmod(descriptor, member.mode & 0o777)
                mtime = max(-_TIME_MAX, min(member.mtime, _TIME_MAX))
                with contextlib.suppress(OSError, OverflowError):
                    os.utime(descriptor, (mtime, mtime))
            finally:
                os.close(descriptor)

        _rename_over(parent, name, make)

    def _link(self, parent: int, name: bytes, target: bytes) -> None:
        above, _, last = relative(target).rpartition(b"/")
        source, made = folder(self._open, self._root, above)
        self.entries += made
        try:

            def make(temporary: bytes) -> None:
                os.link(last, temporary, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
                status = os.stat(temporary, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode):
                    raise FileFailure("not_regular", f"a hard link to {shown(target)}, which is no regular file")

            _rename_over(parent, name, make)
        finally:
            os.close(source)


def _rename_over(parent: int, name: bytes, make: Make) -> None:
    """Make something under a name of its own, then give it the name that is meant, in the place of what has it."""
    temporary = b".chronicled-" + os.urandom(8).hex().encode()
    try:
        make(temporary)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    finally:
        # It is still there after a failure, and where both names are already the same file.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)


def _make_folder(parent: int, name: bytes, mode: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        # A folder that was there stays as it is; anything else is in the way.
        os.close(os.open(name, flags | os.O_PATH, dir_fd=parent))
        return 0
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        os.fchmod(descriptor, mode & 0o777 | 0o700)
    finally:
        os.close(descriptor)
    return 1
