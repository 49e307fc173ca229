"""Links over the standard streams of a container, through its engine: for hosts that can share no directory with it.

The worker attaches, and attaches again whenever the streams end or stop making sense; the action server takes up where
it was, as it does over a socket. What the streams may lose, repeat or let others write is dealt with in `sealed.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import msgspec
import structlog

from chronicled.events.errors import ProtocolError
from chronicled.events.ids import Randomness, SystemRandomness
from chronicled.runtimes.action_server.channel import Channel, ConnectionLost, encode_body
from chronicled.runtimes.action_server.frames import Frame, Hello, Refusal, ToWorker
from chronicled.runtimes.action_server.sealed import (
    EPOCH_BYTES,
    PRESENCE_SECONDS,
    SILENCE_SECONDS,
    Epoch,
    RecordReader,
)
from chronicled.runtimes.worker.channel_link import ChannelLink
from chronicled.runtimes.worker.link import Accept

__all__ = ["Attach", "AttachConnection", "AttachLink", "AttachedStream", "listen_attached"]

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 2.0
WRITE_BYTES: Final = 256 << 10

_log = structlog.get_logger("chronicled.worker")


class AttachedStream(Protocol):
    """The standard streams of a sandbox's main process, as one attachment of its engine gives them."""

    async def read(self) -> bytes:
        """Return what came next on standard output, empty at its end. Cancellation: nothing is lost.

        Raises:
            OSError: the attachment is broken.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Write to standard input; returns when more can be written.

        Raises:
            OSError: the attachment is broken.
        """
        ...

    async def close(self) -> None:
        """Detach: the process keeps its streams. Never raises."""
        ...


Attach = Callable[[], Awaitable[AttachedStream]]
"""Attaches once the process has been told its settings; raises OSError while that cannot be done."""


class AttachConnection(Channel[ToWorker]):
    """The worker's side of one epoch; carries bytes while `run` runs.

    Args:
        token: The generation's.
        epoch: 16 fresh random bytes.
    """

    def __init__(self, token: str, epoch: bytes) -> None:
        super().__init__(ToWorker)
        self._epoch = Epoch(token, epoch, to_server=True)
        self._reader = RecordReader(token, epoch, from_worker=False)
        self._writing: bytes = self._epoch.opening()
        self._work = asyncio.Event()
        self._work.set()
        self._wanted = asyncio.Event()
        self._wanted.set()

    async def run(self, stream: AttachedStream) -> None:
        """Carry bytes until the stream or the connection ends; then the connection is closed. Cancellation: safe."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write_all, stream)
                await self._read_all(stream)
                tasks.cancel_scope.cancel()
        finally:
            self._fail(ConnectionLost("the attachment has ended"))

    async def _read_all(self, stream: AttachedStream) -> None:
        try:
            while self._error is None:
                await self._wanted.wait()
                data = b""
                with anyio.move_on_after(SILENCE_SECONDS):
                    data = await stream.read()
                if not data:
                    return
                for body in self._reader.feed(data):
                    self._take_in(body, [])
                self._arrived()
        except ProtocolError as error:
            self._fail(error)
        except OSError as error:
            self._fail(ConnectionLost(f"the attachment is broken ({error})"))

    async def _write_all(self, stream: AttachedStream) -> None:
        try:
            while self._error is None:
                with anyio.move_on_after(PRESENCE_SECONDS) as patience:
                    await self._work.wait()
                if patience.cancelled_caught:
                    self._put(self._epoch.record(b""))
                    continue
                if self._error is not None:
                    return
                await stream.write(self._writing)
                self._writing = b""
                self._work.clear()
                if self._unsent:
                    self._writable()
        except OSError as error:
            self._fail(ConnectionLost(f"the attachment is broken ({error})"))
        except ConnectionLost:
            return

    def _pack(self, frame: Frame, descriptors: Sequence[int]) -> bytes:
        if descriptors:
            raise ProtocolError("descriptors cannot travel over standard streams")
        return self._epoch.record(encode_body(frame))

    def _write(self, view: memoryview, descriptors: Sequence[int]) -> int:
        if self._writing:
            return 0
        self._writing = bytes(view[:WRITE_BYTES])
        self._work.set()
        return len(self._writing)

    def _watch_room(self, watched: bool) -> None:
        """The writer looks by itself."""

    def _watch_arrivals(self, watched: bool) -> None:
        if watched:
            self._wanted.set()
        else:
            self._wanted.clear()

    def _shut(self) -> None:
        # Wakes both sides of `run`, which see the error.
        self._wanted.set()
        self._work.set()


class AttachLink(ChannelLink):
    """A link over one attachment.

    Args:
        connection: A new one.
        token: The generation's.
        greeted: Called once the server has proven itself, before it is welcomed.
    """

    def __init__(self, connection: AttachConnection, token: str, greeted: Callable[[], None] = lambda: None) -> None:
        super().__init__(connection, greeted, token)

    async def receive(self) -> ToWorker | None:
        """Return the next frame, or None; see `Link.receive`."""
        frame = await super().receive()
        if isinstance(frame, Refusal):
            # A socket would be closed behind it; of an attachment only this end can be.
            self.close()
        return frame

    def _meet(self, hello: Hello) -> Hello:
        # The seals of its records have proven that it knows the token, which itself does not travel here.
        return msgspec.structs.replace(hello, token=self._token, transfers=("inband",))


@asynccontextmanager
async def listen_attached(
    attach: Attach, token: str, accept: Accept, randomness: Randomness | None = None
) -> AsyncGenerator[None]:
    """Keep attached to one sandbox for as long as the context lasts, and have each attachment's link accepted.

    Cancellation: safe; the sandbox keeps its streams.
    """
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_keep_attached, attach, token, accept, randomness or SystemRandomness())
        yield
        tasks.cancel_scope.cancel()


async def _keep_attached(attach: Attach, token: str, accept: Accept, randomness: Randomness) -> None:
    wait = RETRY_SECONDS_MIN
    while True:
        try:
            stream = await attach()
        except OSError as error:
            _log.debug("attach_failed", detail=str(error))
        else:
            began = anyio.current_time()
            await _converse(stream, AttachConnection(token, randomness.bytes(EPOCH_BYTES)), token, accept)
            if anyio.current_time() - began > RETRY_SECONDS_MAX:
                wait = RETRY_SECONDS_MIN
        await anyio.sleep(wait)
        wait = min(2 * wait, RETRY_SECONDS_MAX)


async def _converse(stream: AttachedStream, connection: AttachConnection, token: str, accept: Accept) -> None:
    link = AttachLink(connection, token)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connection.run, stream)
            await accept(link)
            tasks.cancel_scope.cancel()
    finally:
        link.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(RETRY_SECONDS_MAX):
            await stream.close()
