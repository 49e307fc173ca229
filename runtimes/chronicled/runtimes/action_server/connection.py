"""A connection that carries frames over a Unix socket, with descriptors, for both sides.

It stands on the bare socket and not on asyncio's streams: streams know nothing of SCM_RIGHTS and cost a quarter of a
short action's round trip. What comes in is untrusted: sizes, types and descriptors are checked before use.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from chronicled.events.errors import ChronicledError, ProtocolError
from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.runtimes.action_server.frames import Frame

__all__ = ["QUEUE_BYTES_MAX", "Connection", "ConnectionLost", "Peer", "encode"]

QUEUE_BYTES_MAX: Final = 4 << 20
"""A sender waits while more than this is unsent; a reader stops reading while more than this is unclaimed."""
DESCRIPTORS_MAX: Final = 4
_READ_BYTES: Final = 1 << 18
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
_HEADER: Final = struct.Struct("!I")
_encoder: Final = msgspec.msgpack.Encoder()

Received = TypeVar("Received")


class ConnectionLost(ChronicledError):
    """Raised when the peer has gone, or the connection was closed here."""

    code = "connection-lost"
    title = "The connection between worker and action server is gone"
    status = 503
    retryable = True


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
    body = _encoder.encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}")
    return _HEADER.pack(descriptors << 24 | len(body)) + body


class Connection(Generic[Received]):
    """Frames in order, both ways, until either side closes.

    Args:
        connected: A connected stream socket of the Unix family; the connection owns it from now on.
        receives: The union of frames that may come in.
        descriptors_max: How many descriptors a frame may bring; 0 where the peer has none to give.
    """

    def __init__(self, connected: socket.socket, receives: Any, *, descriptors_max: int = 0) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._decode = msgspec.msgpack.Decoder(receives).decode
        self._descriptors_max = min(descriptors_max, DESCRIPTORS_MAX)
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._frames: deque[tuple[Received, list[int], int]] = deque()
        self._frames_bytes = 0
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._unsent_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._error: ChronicledError | None = None
        self._paused = False
        self.on_room: Callable[[], None] | None = None
        """Called when everything that was queued is with the kernel."""
        self._loop.add_reader(connected.fileno(), self._readable)

    @property
    def peer(self) -> Peer:
        """Process and user at the other end."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return Peer(*struct.unpack("3i", raw))

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._error is not None

    @property
    def unsent_bytes(self) -> int:
        """How much waits for the peer to read."""
        return self._unsent_bytes

    def post(self, frame: Frame, descriptors: Sequence[int] = ()) -> None:
        """Send without waiting. What the socket does not take now is queued; use `drain` to let the peer catch up.

        Args:
            frame: What to send.
            descriptors: Sent along; they must stay open until `drain` returns, and stay the caller's to close.

        Raises:
            ConnectionLost: the connection is closed.
            ProtocolError: the frame is too large.
        """
        if self._error is not None:
            raise self._error
        view = memoryview(encode(frame, len(descriptors)))
        if not self._unsent:
            sent = self._write(view, descriptors)
            if sent == len(view):
                return
            if sent:
                view, descriptors = view[sent:], ()
            self._loop.add_writer(self._socket.fileno(), self._writable)
        self._unsent.append((view, tuple(descriptors)))
        self._unsent_bytes += len(view)

    async def send(self, frame: Frame, descriptors: Sequence[int] = ()) -> None:
        """Send, and wait while too much is unsent. Descriptors are with the kernel when it returns.

        Raises:
            ConnectionLost: the connection is closed, or closed while it waited.
            ProtocolError: the frame is too large.

        Cancellation: safe; the frame is queued already.
        """
        self.post(frame, descriptors)
        if self._unsent_bytes > QUEUE_BYTES_MAX or (descriptors and self._unsent):
            await self.drain()

    async def drain(self) -> None:
        """Wait until everything queued is with the kernel.

        Raises:
            ConnectionLost: the connection closed before that.
        """
        while self._unsent and self._error is None:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        if self._error is not None:
            raise self._error

    async def receive(self) -> tuple[Received, list[int]]:
        """Return the next frame and its descriptors, which are the caller's to close. One receiver at a time.

        Raises:
            ConnectionLost: the peer is gone; every frame before that was returned.
            ProtocolError: the peer sent something that is not a frame; the connection is closed.

        Cancellation: safe; no frame is lost.
        """
        while not self._frames:
            if self._error is not None:
                raise self._error
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._take()

    def receive_ready(self) -> tuple[Received, list[int]] | None:
        """Return the next frame like `receive` if it is here already, else None."""
        return self._take() if self._frames else None

    def _take(self) -> tuple[Received, list[int]]:
        frame, descriptors, size = self._frames.popleft()
        self._frames_bytes -= size
        if self._paused and self._frames_bytes <= QUEUE_BYTES_MAX and self._error is None:
            self._paused = False
            self._loop.add_reader(self._socket.fileno(), self._readable)
        return frame, descriptors

    def close(self) -> None:
        """Close at once: what is unsent and what was not received is dropped. Idempotent."""
        self._frames_bytes = 0
        while self._frames:
            for descriptor in self._frames.popleft()[1]:
                os.close(descriptor)
        self._fail(ConnectionLost("the connection was closed"))

    def _write(self, view: memoryview, descriptors: Sequence[int]) -> int:
        try:
            if descriptors:
                return socket.send_fds(self._socket, [view], list(descriptors))
            return self._socket.send(view)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._fail(ConnectionLost(f"the peer is gone ({error.strerror})"))
            raise self._lost() from None

    def _lost(self) -> ChronicledError:
        return self._error or ConnectionLost()

    def _writable(self) -> None:
        try:
            while self._unsent:
                view, descriptors = self._unsent[0]
                sent = self._write(view, descriptors)
                self._unsent_bytes -= sent
                if sent < len(view):
                    self._unsent[0] = (view[sent:], () if sent else descriptors)
                    return
                self._unsent.popleft()
        except ChronicledError:
            return
        self._loop.remove_writer(self._socket.fileno())
        self._wake()
        if self.on_room is not None:
            self.on_room()

    def _readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(_READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(ConnectionLost(f"the peer is gone ({error.strerror})"))
            return
        if ancillary:
            self._adopt(ancillary)
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > DESCRIPTORS_MAX * 64:
            self._fail(ProtocolError("the peer sent more descriptors than a frame may bring"))
        elif not data:
            self._fail(ConnectionLost("the peer closed the connection"))
        else:
            self._buffer += data
            self._parse()

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
        if self._frames_bytes > QUEUE_BYTES_MAX and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._socket.fileno())
        if self._frames and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _accept(self, body: bytes, count: int) -> None:
        if len(self._descriptors) < count:
            raise ProtocolError("the peer announced descriptors that did not come")
        try:
            frame = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"the peer sent what is not a frame: {error}") from None
        descriptors = [self._descriptors.popleft() for _ in range(count)]
        self._frames.append((frame, descriptors, len(body)))
        self._frames_bytes += len(body)

    def _fail(self, error: ChronicledError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._unsent.clear()
        self._unsent_bytes = 0
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._wake()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
