"""A connection that carries frames over a Unix socket, with descriptors, for both sides.

It stands on the bare socket and not on asyncio's streams: streams know nothing of SCM_RIGHTS and cost a quarter of a
short action's round trip. What comes in is untrusted: sizes, types and descriptors are checked before use.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from chronicled.events.errors import ProtocolError
from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.runtimes.action_server.channel import (
    QUEUE_BYTES_MAX,
    Channel,
    ConnectionLost,
    Received,
    encode_body,
)
from chronicled.runtimes.action_server.frames import Frame

__all__ = ["QUEUE_BYTES_MAX", "Connection", "ConnectionLost", "Peer", "encode"]

DESCRIPTORS_MAX: Final = 4
_READ_BYTES: Final = 1 << 18
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
_HEADER: Final = struct.Struct("!I")


class Peer(NamedTuple):
    """Who is at the other end, as the kernel says (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


def encode(frame: Frame, descriptors: int = 0) -> bytes:
    """Return the wire form of a frame.

    Raises:
        ProtocolError: it is larger than `FRAME_BYTES_MAX`.
    """
    body = encode_body(frame)
    return _HEADER.pack(descriptors << 24 | len(body)) + body


class Connection(Channel[Received]):
    """Frames over a socket.

    Args:
        connected: A connected stream socket of the Unix family; the connection owns it from now on.
        receives: The union of frames that may come in.
        descriptors_max: How many descriptors a frame may bring; 0 where the peer has none to give.
    """

    def __init__(self, connected: socket.socket, receives: Any, *, descriptors_max: int = 0) -> None:
        super().__init__(receives)
        connected.setblocking(False)
        self._socket = connected
        self._descriptors_max = min(descriptors_max, DESCRIPTORS_MAX)
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._watch_arrivals(True)

    @property
    def peer(self) -> Peer:
        """Process and user at the other end."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Peer(*struct.unpack("3i", raw))

    def _pack(self, frame: Frame, descriptors: Sequence[int]) -> bytes:
        return encode(frame, len(descriptors))

    def _watch_room(self, watched: bool) -> None:
        if watched:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def _watch_arrivals(self, watched: bool) -> None:
        if watched:
            self._loop.add_reader(self._socket.fileno(), self._readable)
        else:
            self._loop.remove_reader(self._socket.fileno())

    def _shut(self) -> None:
        self._watch_arrivals(False)
        self._watch_room(False)
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _write(self, view: memoryview, descriptors: Sequence[int]) -> int:
        try:
            if descriptors:
                return socket.send_fds(self._socket, [view], list(descriptors))
            return self._socket.send(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            # What the peer said before it went is still to be heard: a refusal, say.
            while self._error is None and self._readable():
                pass
            self._fail(ConnectionLost(f"the peer is gone ({error.strerror})"))
            raise self._lost() from None

    def _readable(self) -> bool:
        """Take what has arrived; return whether there was anything."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._fail(ConnectionLost(f"the peer is gone ({error.strerror})"))
            return False
        if ancillary:
            self._adopt(ancillary)
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > DESCRIPTORS_MAX * 64:
            self._fail(ProtocolError("the peer sent more descriptors than a frame may bring"))
        elif not data:
            self._fail(ConnectionLost("the peer closed the connection"))
        else:
            self._buffer += data
            self._parse()
        return bool(data)

    def _adopt(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(data) // 4
                self._descriptors.extend(struct.unpack(f"{count}i", data[: count * 4]))

    def _parse(self) -> None:
        buffer, start = self._buffer, 0
        try:
            while len(buffer) - start >= 4:
                head = _HEADER.unpack_from(buffer, start)[0]
                size, count = head & 0xFFFFFF, head >> 24
                if size > FRAME_BYTES_MAX or count > self._descriptors_max:
                    raise ProtocolError(f"the peer announced a frame of {size} bytes with {count} descriptors")
                if len(buffer) - start - 4 < size:
                    break
                body = bytes(memoryview(buffer)[start + 4 : start + 4 + size])
                start += 4 + size
                self._accept(body, count)
        except ProtocolError as error:
            self._fail(error)
            return
        del buffer[:start]
        self._arrived()

    def _accept(self, body: bytes, count: int) -> None:
        if len(self._descriptors) < count:
            raise ProtocolError("the peer announced descriptors that did not come")
        # Before the frame is decoded they belong to the connection: it closes them if it is none.
        descriptors = [self._descriptors[index] for index in range(count)]
        self._take_in(body, descriptors)
        for _ in range(count):
            self._descriptors.popleft()
