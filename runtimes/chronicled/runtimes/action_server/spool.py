"""The result spool: every result of a generation, written before it is sent, read by the worker if the server dies.

A record is its length (u32, big endian), the CRC-32 of its body (u32), and the body: the `Result` frame as MessagePack.
A record that was cut off by a crash is the last one, and is ignored. Nothing is synced: the spool has to outlive the
server's process, not the machine (a generation does not outlive the machine either).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.runtimes.action_server.frames import Result

__all__ = ["ResultSpool", "read_results"]

_HEADER: Final = struct.Struct("!II")
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Result)


class ResultSpool:
    """The writing end, on a descriptor that the worker gave.

    Args:
        descriptor: A regular file, read and write; the spool owns it from now on.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._file = (status.st_dev, status.st_ino)
        self._end = _intact_bytes(descriptor)

    def is_same_file(self, descriptor: int) -> bool:
        """Return whether the descriptor is of the file that this spool writes."""
        status = os.fstat(descriptor)
        return (status.st_dev, status.st_ino) == self._file

    def append(self, result: Result) -> int:
        """Write a result behind the others; return its offset, for `read`.

        Raises:
            OSError: it could not be written; the spool is as it was.
        """
        body = _encoder.encode(result)
        record = memoryview(_HEADER.pack(len(body), zlib.crc32(body)) + body)
        offset, done = self._end, 0
        try:
            while done < len(record):
                done += os.pwrite(self._descriptor, record[done:], offset + done)
        except OSError:
            os.ftruncate(self._descriptor, offset)
            raise
        self._end = offset + done
        return offset

    def read(self, offset: int) -> Result | None:
        """Return the result at an offset that `append` returned, or None when it cannot be read any more."""
        found = _record(self._descriptor, offset)
        return None if found is None else found[0]

    @property
    def bytes_total(self) -> int:
        """Size of all records."""
        return self._end

    def clear(self) -> None:
        """Forget every record; their offsets mean nothing any more."""
        os.ftruncate(self._descriptor, 0)
        self._end = 0

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


def read_results(descriptor: int) -> Iterator[Result]:
    """Return every intact result in the order in which they were written; stops at the first record that is not intact.

    What it returns was written by a sandbox's server: check it as any frame.
    """
    offset = 0
    while (found := _record(descriptor, offset)) is not None:
        result, offset = found
        yield result


def _intact_bytes(descriptor: int) -> int:
    offset = 0
    while (found := _record(descriptor, offset)) is not None:
        offset = found[1]
    return offset


def _record(descriptor: int, offset: int) -> tuple[Result, int] | None:
    header = os.pread(descriptor, _HEADER.size, offset)
    if len(header) < _HEADER.size:
        return None
    size, checksum = _HEADER.unpack(header)
    if size > FRAME_BYTES_MAX:
        return None
    body = os.pread(descriptor, size, offset + _HEADER.size)
    if len(body) < size or zlib.crc32(body) != checksum:
        return None
    try:
        return _decoder.decode(body), offset + _HEADER.size + size
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
