"""Frames over the container's standard input and output, where no socket can be shared; `dial.py` has a sibling here.

Nobody dials: a worker attaches, through its engine, and opens an epoch (`sealed.py`). Whether it is still there cannot
be seen from inside, so it says so every few seconds; when it has been silent for too long it counts as away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from chronicled.events.errors import ChronicledError, ProtocolError
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.channel import Channel, ConnectionLost, encode_body
from chronicled.runtimes.action_server.dial import refuse
from chronicled.runtimes.action_server.sealed import (
    PRESENCE_SECONDS,
    SILENCE_SECONDS,
    Epoch,
    OpeningFinder,
    RecordReader,
)
from chronicled.runtimes.action_server.server import ActionServer

__all__ = ["StdioConnection", "StdioServer"]

_HANDSHAKE_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_STEP_SECONDS_MAX: Final = 3.0
"""Longest that one round takes while this process runs: after a longer one it has stood still."""
_READ_BYTES: Final = 1 << 18


class StdioConnection(Channel[frames.ToServer]):
    """The server's side of one epoch.

    Args:
        token: The generation's.
        epoch: The epoch that a worker has opened.
        outgoing: Descriptor of the stream to the worker; not the connection's to close.
        watch: Takes whether bytes that arrive are wanted now.
    """

    def __init__(self, token: str, epoch: bytes, outgoing: int, watch: Callable[[bool], None]) -> None:
        super().__init__(frames.ToServer)
        self.heard_at = self._loop.time()
        """Loop time of the worker's last sign of life."""
        self._said_at = self.heard_at
        self._outgoing = outgoing
        self._watch = watch
        self._epoch = Epoch(token, epoch, to_server=False)
        self._reader = RecordReader(token, epoch, from_worker=True)

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream; what is broken ends the connection."""
        if self._error is not None:
            return
        try:
            bodies = self._reader.feed(data)
            self.heard_at = self._loop.time()
            for body in bodies:
                self._take_in(body, [])
        except ProtocolError as error:
            # The worker cannot know, unless it is told: it attaches again then.
            with contextlib.suppress(ChronicledError):
                self.post(frames.Refusal(code="torn", message=error.detail))
            self._fail(error)
        self._arrived()

    def say_present(self) -> None:
        """Tell the worker that its epoch goes on, unless something else on its way says so."""
        if self._error is None and not self._unsent and self._loop.time() > self._said_at + PRESENCE_SECONDS:
            self._said_at = self._loop.time()
            with contextlib.suppress(ConnectionLost):
                self._put(self._epoch.record(b""))

    def give_way(self) -> None:
        """End it because another worker has attached; whoever is still there is told."""
        with contextlib.suppress(ChronicledError):
            self.post(frames.Refusal(code="replaced", message="another worker has attached"))
        self.lose("another worker has attached")

    def lose(self, reason: str) -> None:
        """End it because the worker is gone."""
        self._fail(ConnectionLost(reason))

    def _pack(self, frame: frames.Frame, descriptors: Sequence[int]) -> bytes:
        if descriptors:
            raise ProtocolError("descriptors cannot travel over standard streams")
        return self._epoch.record(encode_body(frame))

    def _write(self, view: memoryview, descriptors: Sequence[int]) -> int:
        try:
            return os.write(self._outgoing, view)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._fail(ConnectionLost(f"standard output is closed ({error.strerror})"))
            raise self._lost() from None

    def _watch_room(self, watched: bool) -> None:
        if watched:
            self._loop.add_writer(self._outgoing, self._writable)
        else:
            self._loop.remove_writer(self._outgoing)

    def _watch_arrivals(self, watched: bool) -> None:
        self._watch(watched)

    def _shut(self) -> None:
        # A record that is cut off here is skipped by the next worker. The stream itself goes on.
        self._watch_room(False)
        self._watch(True)


class StdioServer:
    """Serves whichever worker has attached last.

    Args:
        server: Takes each welcomed connection.
        streams: Descriptors of the streams from and to the worker; its own from now on.
        token: The generation's.
        hello: Makes the first frame.
        unclaimed_seconds_max: How long to go without a worker, until a worker names another time.
    """

    def __init__(
        self,
        server: ActionServer,
        streams: tuple[int, int],
        token: str,
        hello: Callable[[], frames.Hello],
        unclaimed_seconds_max: float,
    ) -> None:
        self._server = server
        self._incoming, self._outgoing = streams
        self._token = token
        self._hello = hello
        self._unclaimed_seconds_max = unclaimed_seconds_max
        self._finder = OpeningFinder(token)
        self._loop = asyncio.get_running_loop()
        self._connection: StdioConnection | None = None
        self._opened = asyncio.Event()
        self._watched = False
        self._ended = False

    async def run(self) -> None:
        """Serve for ever; return once no worker has been there for too long.

        Time during which this process stood still (a paused sandbox) is not time without a worker.
        """
        for descriptor in (self._incoming, self._outgoing):
            os.set_blocking(descriptor, False)
        self._watch(True)
        serving: asyncio.Task[None] | None = None
        unclaimed, looked_at = 0.0, self._loop.time()
        try:
            while unclaimed <= self._unclaimed_seconds_max:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._opened.wait(), _LOOK_SECONDS)
                if self._opened.is_set():
                    self._opened.clear()
                    await _stop(serving)
                    serving = None
                    if self._connection is not None:
                        serving = self._loop.create_task(self._serve(self._connection))
                if serving is not None and serving.done():
                    serving = None
                step, looked_at = self._loop.time() - looked_at, self._loop.time()
                # Whoever has woken it finds it here, and has its time.
                unclaimed = 0.0 if serving is not None or step > _STEP_SECONDS_MAX else unclaimed + step
                if serving is not None:
                    self._look_after()
        finally:
            self._watch(False)
            self._ended = True
            await _stop(serving)
            os.close(self._incoming)
            os.close(self._outgoing)

    def _look_after(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if self._loop.time() > connection.heard_at + SILENCE_SECONDS:
            connection.lose("the worker has been silent for too long")
        connection.say_present()

    def _watch(self, watched: bool) -> None:
        if watched and not self._watched and not self._ended:
            self._loop.add_reader(self._incoming, self._readable)
        elif not watched and self._watched:
            self._loop.remove_reader(self._incoming)
        self._watched = watched

    def _readable(self) -> None:
        try:
            data = os.read(self._incoming, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            # No worker can come any more, unless the engine opens the stream again, which none does.
            self._watch(False)
            self._ended = True
            if self._connection is not None:
                self._connection.lose("standard input has ended")
            return
        found = self._finder.feed(data)
        if found is not None:
            epoch, data = found
            if self._connection is not None:
                self._connection.give_way()
            self._connection = StdioConnection(self._token, epoch, self._outgoing, self._watch)
            self._opened.set()
        if self._connection is not None:
            self._connection.feed(data)

    async def _serve(self, connection: StdioConnection) -> None:
        with contextlib.suppress(ChronicledError, TimeoutError):
            try:
                if await self._welcomed(connection):
                    await self._server.serve(connection)
            finally:
                connection.close()

    async def _welcomed(self, connection: StdioConnection) -> bool:
        hello = self._hello()
        connection.post(hello)
        frame, _ = await asyncio.wait_for(connection.receive(), _HANDSHAKE_SECONDS)
        refusal = refuse(self._server, hello, frame, [])
        if refusal is None and isinstance(frame, frames.Welcome):
            self._unclaimed_seconds_max = frame.unclaimed_seconds_max
            self._server.adopt(connection, frame, None)
            return True
        if refusal is not None:
            connection.post(refusal)
        return False


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait((task,))
