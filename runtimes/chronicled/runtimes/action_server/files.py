"""The executors of `read` and `write`: files of the sandbox, relative paths from where the lane is."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import stat
import tempfile
from collections.abc import Collection
from typing import Any, Final, NamedTuple

import msgspec

from chronicled.events.kinds.actions import Read, Write
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Context, Ended, Request, error

__all__ = ["READ_BYTES_MAX", "FileExecutor"]

READ_BYTES_MAX: Final = 1 << 20
"""Most that a read returns; `truncated` says that there was more. As base64 it still fits into a frame."""
_SCAN_BYTES_MAX: Final = 256 << 20
_CHUNK_BYTES: Final = 1 << 18
_read_decoder: Final = msgspec.json.Decoder(Read)
_write_decoder: Final = msgspec.json.Decoder(Write)


class FileExecutor:
    """Reads and writes files in a thread, so that a slow disk stops nobody else."""

    @property
    def kinds(self) -> Collection[str]:
        """`read` and `write`."""
        return ("read", "write")

    async def execute(self, request: Request, context: Context) -> Ended:
        """Read or write one file; see `Executor.execute`.

        Cancellation: a read or write that the kernel holds goes on in its thread; a write still lands whole or not.
        """
        decoder = _read_decoder if request.kind == "read" else _write_decoder
        try:
            arguments = decoder.decode(request.payload)
        except msgspec.MsgspecError as problem:
            return error("bad_arguments", f"the payload of the {request.kind} action is not valid: {problem}")
        if "\0" in arguments.path:
            return error("bad_arguments", "a path cannot hold a NUL character")
        path = context.lane.resolve(arguments.path)
        if isinstance(arguments, Write):
            try:
                data = _content(arguments)
            except (ValueError, binascii.Error) as problem:
                return error("bad_arguments", f"the content cannot be decoded: {problem}")
            work: _Writing | _Reading = _Writing(path, data)
        else:
            work = _Reading(path, arguments.line_first, arguments.line_last)
        context.begin()
        try:
            fields = await asyncio.to_thread(work.act)
        except OSError as problem:
            reason = _REASONS.get(type(problem), "os_error")
            message = f"{problem.strerror or problem}: {path}"
            return Ended(
                outcome=Outcome.FAILED,
                effects=Effects.COMPLETE,
                reason=reason,
                message=message,
                fields={"path": path},
            )
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields=fields)

    async def close(self) -> None:
        """Nothing is held."""


_REASONS: Final[dict[type[OSError], str]] = {
    FileNotFoundError: "not_found",
    PermissionError: "not_permitted",
    IsADirectoryError: "is_a_directory",
    NotADirectoryError: "not_a_directory",
    FileExistsError: "exists",
}


class _Writing(NamedTuple):
    path: str
    data: bytes

    def act(self) -> dict[str, Any]:
        """Replace the file in one step: readers see the old bytes or the new ones, and a crash leaves one of them."""
        # Through a link to what it points at, as an editor would.
        path = os.path.realpath(self.path)
        directory = os.path.dirname(path)
        os.makedirs(directory, exist_ok=True)
        try:
            before = os.stat(path)
        except FileNotFoundError:
            before = None
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(21, "Is a directory")
        if before is not None and not stat.S_ISREG(before.st_mode):
            return self._write_through(path)
        umask = _umask()
        descriptor, temporary = tempfile.mkstemp(prefix=".chronicled-", dir=directory)
        try:
            with open(descriptor, "wb") as file:
                file.write(self.data)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode) if before else 0o666 & ~umask)
                if before is not None and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    _keep_owner(file.fileno(), before)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return self._report(existed=before is not None)

    def _write_through(self, path: str) -> dict[str, Any]:
        # A device or a pipe cannot be replaced; without a reader a pipe is an error and not a wait.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, self.data)
        finally:
            os.close(descriptor)
        return self._report(existed=True)

    def _report(self, *, existed: bool) -> dict[str, Any]:
        return {"path": self.path, "bytes_written": len(self.data), "existed": existed}


class _Reading(NamedTuple):
    path: str
    line_first: int | None
    line_last: int | None

    def act(self) -> dict[str, Any]:
        """Read the file, or the lines that were asked for."""
        # Without O_NONBLOCK a pipe without a writer would hold the thread for ever.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(21, "Is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise OSError(22, "Not a regular file")
            lines: int | None = None
            if self.line_first is not None or self.line_last is not None:
                data, lines, more = _lines(file, self.line_first or 1, self.line_last)
            else:
                data = file.read(READ_BYTES_MAX + 1)
                more = len(data) > READ_BYTES_MAX
                data = data[:READ_BYTES_MAX]
                if not more:
                    lines = _count_lines(data)
        content, encoding = _present(data)
        return {
            "path": self.path,
            "content": content,
            "encoding": encoding,
            "file_bytes": status.st_size,
            "line_count": lines if encoding == "utf-8" else None,
            "truncated": more,
        }


def _content(arguments: Write) -> bytes:
    if arguments.encoding == "base64":
        return base64.b64decode(arguments.content, validate=True)
    return arguments.content.encode()


def _umask() -> int:
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def _keep_owner(descriptor: int, before: os.stat_result) -> None:
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except PermissionError:
        # Only root can give a file away: the writer becomes its owner.
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode) & 0o777)


def _count_lines(data: bytes) -> int:
    return data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)


def _lines(file: Any, first: int, last: int | None) -> tuple[bytes, int | None, bool]:
    """Return the lines, how many the file has (None when it is too large to count), and whether some did not fit."""
    kept: list[bytes] = []
    size, number, scanned, more = 0, 0, 0, False
    at_start = True
    while line := file.readline(_CHUNK_BYTES):
        scanned += len(line)
        number += at_start
        at_start = line.endswith(b"\n")
        if scanned > _SCAN_BYTES_MAX:
            return b"".join(kept), None, more or last is None or number <= last
        if number < first or (last is not None and number > last):
            continue
        if size + len(line) > READ_BYTES_MAX:
            line, more = line[: READ_BYTES_MAX - size], True
        kept.append(line)
        size += len(line)
    return b"".join(kept), number, more


def _present(data: bytes) -> tuple[str, str]:
    """Return the content as text, and its encoding."""
    text = _as_text(data)
    return (base64.b64encode(data).decode(), "base64") if text is None else (text, "utf-8")


def _as_text(data: bytes) -> str | None:
    if b"\0" in data:
        return None
    # A cut at the size limit may have split the last character, which is at most four bytes long.
    for dropped in range(4 if len(data) == READ_BYTES_MAX else 1):
        try:
            return data[: len(data) - dropped].decode()
        except UnicodeDecodeError:
            continue
    return None
