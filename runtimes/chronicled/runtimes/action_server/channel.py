"""What every connection does with frames, whatever carries them: queues with bounds, decoding, the end."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from chronicled.events.errors import ChronicledError, ProtocolError
from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.runtimes.action_server.frames import Frame

__all__ = ["QUEUE_BYTES_MAX", "Channel", "ConnectionLost", "encode_body"]

QUEUE_BYTES_MAX: Final = 4 << 20
"""A sender waits while more than this is unsent; a reader stops reading while more than this is unclaimed."""
_encoder: Final = msgspec.msgpack.Encoder()

Received = TypeVar("Received")


class ConnectionLost(ChronicledError):
    """Raised when the peer has gone, or the connection was closed here."""

    code = "connection-lost"
    title = "The connection between worker and action server is gone"
    status = 503
    retryable = True


def encode_body(frame: Frame) -> bytes:
    """Return the frame as MessagePack.

    Raises:
        ProtocolError: it is larger than `FRAME_BYTES_MAX`.
    """
    body = _encoder.encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {FRAME_BYTES_MAX}")
    return body


class Channel(ABC, Generic[Received]):
    """Frames in order, both ways, until either side closes.

    Args:
        receives: The union of frames that may come in.
    """

    def __init__(self, receives: Any) -> None:
        self.on_room: Callable[[], None] | None = None
        """Called when everything that was queued is with the kernel."""
        self._loop = asyncio.get_running_loop()
        self._decode = msgspec.msgpack.Decoder(receives).decode
        self._frames: deque[tuple[Received, list[int], int]] = deque()
        self._frames_bytes = 0
        self._unsent: deque[tuple[memoryview, Sequence[int]]] = deque()
        self._unsent_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._error: ChronicledError | None = None
        self._paused = False

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._error is not None

    @property
    def unsent_bytes(self) -> int:
        """How much waits for the peer to read."""
        return self._unsent_bytes

    @abstractmethod
    def _pack(self, frame: Frame, descriptors: Sequence[int]) -> bytes:
        """Return the wire form of a frame; raises ProtocolError for one that is too large."""

    @abstractmethod
    def _write(self, view: memoryview, descriptors: Sequence[int]) -> int:
        """Write what can be written now, return how much; raises ConnectionLost, after `_fail`, if the peer is gone."""

    @abstractmethod
    def _watch_room(self, watched: bool) -> None:
        """Have `_writable` called when more can be written, or not any more."""

    @abstractmethod
    def _watch_arrivals(self, watched: bool) -> None:
        """Take what arrives, or let it wait."""

    @abstractmethod
    def _shut(self) -> None:
        """Give up whatever carries the bytes. Called once."""

    def post(self, frame: Frame, descriptors: Sequence[int] = ()) -> None:
        """Send without waiting. What cannot be written now is queued; use `drain` to let the peer catch up.

        Args:
            frame: What to send.
            descriptors: Sent along; they must stay open until `drain` returns, and stay the caller's to close.

        Raises:
            ConnectionLost: the connection is closed.
            ProtocolError: the frame is too large.
        """
        if self._error is not None:
            raise self._error
        self._put(self._pack(frame, descriptors), descriptors)

    def _put(self, packed: bytes, descriptors: Sequence[int] = ()) -> None:
        view = memoryview(packed)
        if not self._unsent:
            sent = self._write(view, descriptors)
            if sent == len(view):
                return
            if sent:
                view, descriptors = view[sent:], ()
            self._watch_room(True)
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
            self._watch_arrivals(True)
        return frame, descriptors

    def close(self) -> None:
        """Close at once: what is unsent and what was not received is dropped. Idempotent."""
        self._frames_bytes = 0
        while self._frames:
            for descriptor in self._frames.popleft()[1]:
                os.close(descriptor)
        self._fail(ConnectionLost("the connection was closed"))

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
        self._watch_room(False)
        self._wake()
        if self.on_room is not None:
            self.on_room()

    def _take_in(self, body: bytes, descriptors: list[int]) -> None:
        """Queue a frame that has arrived; raises ProtocolError where it is none."""
        try:
            frame = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"the peer sent what is not a frame: {error}") from None
        self._frames.append((frame, descriptors, len(body)))
        self._frames_bytes += len(body)

    def _arrived(self) -> None:
        """Wake the receiver, after `_take_in`; take no more while too much is unclaimed."""
        if self._frames_bytes > QUEUE_BYTES_MAX and not self._paused:
            self._paused = True
            self._watch_arrivals(False)
        if self._frames and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _fail(self, error: ChronicledError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._shut()
        self._unsent.clear()
        self._unsent_bytes = 0
        self._wake()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
