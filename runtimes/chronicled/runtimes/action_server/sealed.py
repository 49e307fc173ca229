"""Frames over streams that are neither whole nor private: a container's standard input and output.

Each end of such a stream is cut and joined again when a worker goes and another attaches, at any byte; what was on its
way may be lost or come late; and a command in the sandbox may find a way to write into the stream or read from it. So:

- A worker begins with an *opening*: a mark that only worker and server know, a fresh random *epoch*, and a seal. The
  server looks for the mark everywhere, even in the midst of a record that will never be complete. An epoch that was
  opened once is never opened again.
- Every record bears the epoch, its number in the epoch and direction, its size, and a seal (a keyed hash) over all that
  and its body, which is one frame. What does not fit ends the epoch: there is no way back into it, and nothing that was
  read is ever taken for something else. The worker attaches again, with a new epoch.
- The worker skips what comes before its own epoch: that is meant for a worker before it.

    opening   mark (16), epoch (16), seal (16)
    record    epoch (16), number (4), size (4), seal (16), body

A record without a body says that the worker is still there.
"""

from __future__ import annotations

import hmac
import struct
from collections import deque
from typing import Final

from chronicled.events.errors import ProtocolError
from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.runtimes.action_server.seal import SEAL_BYTES, derive, seal

__all__ = [
    "EPOCH_BYTES",
    "OPENING_BYTES",
    "PRESENCE_SECONDS",
    "SILENCE_SECONDS",
    "Epoch",
    "OpeningFinder",
    "RecordReader",
]

PRESENCE_SECONDS: Final = 5.0
"""How often each side says that it is still there."""
SILENCE_SECONDS: Final = 20.0
"""After so long without a word the other side counts as away."""
EPOCH_BYTES: Final = 16
_MARK_BYTES: Final = 16
OPENING_BYTES: Final = _MARK_BYTES + EPOCH_BYTES + SEAL_BYTES
_HEADER: Final = struct.Struct("!16sII")
RECORD_BYTES: Final = _HEADER.size + SEAL_BYTES
EPOCHS_MAX: Final = 4096
"""Epochs that a server remembers, so that none is opened again."""


class Epoch:
    """Makes the records of one side of one epoch.

    Args:
        token: The generation's.
        epoch: 16 random bytes, fresh for each attachment.
        to_server: Whether these are the worker's records.
    """

    def __init__(self, token: str, epoch: bytes, *, to_server: bool) -> None:
        self.epoch = epoch
        self._token = token
        self._key = _direction(token, to_server=to_server)
        self._number = 0

    def opening(self) -> bytes:
        """Return what a worker begins with."""
        marked = _mark(self._token) + self.epoch
        return marked + seal(derive(self._token, b"opening"), marked)

    def record(self, body: bytes) -> bytes:
        """Return the next record."""
        header = _HEADER.pack(self.epoch, self._number, len(body))
        self._number += 1
        return b"".join((header, seal(self._key, header, body), body))


class RecordReader:
    """Finds one side's records of one epoch in what arrives.

    Args:
        token: The generation's.
        epoch: The epoch.
        from_worker: Whether these are the worker's records.
    """

    def __init__(self, token: str, epoch: bytes, *, from_worker: bool) -> None:
        self._epoch = epoch
        self._key = _direction(token, to_server=from_worker)
        self._number = 0
        self._buffer = bytearray()
        self._begun = from_worker
        """Whether the epoch's first record was met; what a worker sends begins with it."""

    def feed(self, data: bytes | memoryview) -> deque[bytes]:
        """Return the bodies that are whole by now, those of records without one left out.

        Raises:
            ProtocolError: the stream was cut or tampered with: nothing more can be had of this epoch.
        """
        self._buffer += data
        bodies: deque[bytes] = deque()
        if not self._begun and not self._find():
            return bodies
        start = 0
        while len(self._buffer) - start >= RECORD_BYTES:
            epoch, number, size = _HEADER.unpack_from(self._buffer, start)
            if epoch != self._epoch or number != self._number or size > FRAME_BYTES_MAX:
                raise ProtocolError("a record came that does not follow the one before it")
            end = start + RECORD_BYTES + size
            if len(self._buffer) < end:
                break
            bodies += self._open(start, end)
            start = end
        del self._buffer[:start]
        return bodies

    def _find(self) -> bool:
        at = self._buffer.find(self._epoch)
        del self._buffer[: at if at >= 0 else max(0, len(self._buffer) - EPOCH_BYTES + 1)]
        self._begun = at >= 0
        return self._begun

    def _open(self, start: int, end: int) -> list[bytes]:
        with memoryview(self._buffer) as view:
            header, sealed = view[start : start + _HEADER.size], view[start + _HEADER.size : start + RECORD_BYTES]
            body = bytes(view[start + RECORD_BYTES : end])
            genuine = hmac.compare_digest(seal(self._key, header, body), sealed)
            header.release()
            sealed.release()
        if not genuine:
            raise ProtocolError("a record came whose seal is broken")
        self._number += 1
        return [body] if body else []


class OpeningFinder:
    """Finds openings in what arrives at a server, wherever they stand.

    Args:
        token: The generation's.
    """

    def __init__(self, token: str) -> None:
        self._mark = _mark(token)
        self._key = derive(token, b"opening")
        self._known: dict[bytes, None] = {}
        self._tail = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Return the epoch of the last opening that is whole by now and what arrived behind it, None without a new one.

        What stands before an opening in `data` is not returned: older epochs end unread.
        """
        joined = self._tail + data
        found: tuple[bytes, bytes] | None = None
        at = joined.find(self._mark)
        while at >= 0 and at + OPENING_BYTES <= len(joined):
            epoch = self._judge(joined[at : at + OPENING_BYTES])
            if epoch is not None:
                found = epoch, joined[at + OPENING_BYTES :]
            at = joined.find(self._mark, at + 1)
        self._tail = joined[-OPENING_BYTES + 1 :]
        return found

    def _judge(self, opening: bytes) -> bytes | None:
        marked, sealed = opening[:-SEAL_BYTES], opening[-SEAL_BYTES:]
        epoch = marked[_MARK_BYTES:]
        if epoch in self._known or not hmac.compare_digest(seal(self._key, marked), sealed):
            return None
        self._known[epoch] = None
        if len(self._known) > EPOCHS_MAX:
            del self._known[next(iter(self._known))]
        return epoch


def _mark(token: str) -> bytes:
    return derive(token, b"mark")[:_MARK_BYTES]


def _direction(token: str, *, to_server: bool) -> bytes:
    return derive(token, b"to server" if to_server else b"to worker")
