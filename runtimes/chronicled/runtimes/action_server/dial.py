"""Dialling the worker: again and again while it is away, and beside an open connection when a new worker listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

from chronicled.events.errors import ChronicledError
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.address import SOCKET_NAME, connect
from chronicled.runtimes.action_server.connection import Connection
from chronicled.runtimes.action_server.protocol_range import spoken_here
from chronicled.runtimes.action_server.server import ActionServer, WorkerConnection

__all__ = ["Dialler", "refuse"]

_BACKOFF_SECONDS_FIRST: Final = 0.01
_BACKOFF_SECONDS_MAX: Final = 0.25
_REFUSED_SECONDS: Final = 1.0
_HANDSHAKE_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_STEP_SECONDS_MAX: Final = 15.0
"""Longest that one round takes while this process runs: what is above it passed while it stood still."""


class Dialler:
    """Keeps the server connected to whoever listens at the worker's socket.

    Args:
        server: Takes each welcomed connection.
        directory: Folder of the worker's socket.
        hello: Makes the first frame.
        unclaimed_seconds_max: How long to go without a worker, until a worker names another time.
    """

    def __init__(
        self,
        server: ActionServer,
        directory: str,
        hello: Callable[[], frames.Hello],
        unclaimed_seconds_max: float,
    ) -> None:
        self._server = server
        self._directory = directory
        self._hello = hello
        self._unclaimed_seconds_max = unclaimed_seconds_max
        self._socket_file: tuple[int, int, int] | None = None

    async def run(self) -> None:
        """Dial for ever; return once no worker has been there for too long.

        Time during which this process stood still (a paused sandbox) is not time without a worker, although the clock
        went on: whoever wakes it finds it dialling.
        """
        loop = asyncio.get_running_loop()
        serving: asyncio.Task[None] | None = None
        unclaimed, looked_at = 0.0, loop.time()
        backoff = _BACKOFF_SECONDS_FIRST
        try:
            while True:
                if serving is not None:
                    await asyncio.wait((serving,), timeout=_LOOK_SECONDS)
                    unclaimed, looked_at = 0.0, loop.time()
                    if not serving.done() and self._find() in (self._socket_file, None):
                        continue
                now = loop.time()
                unclaimed, looked_at = unclaimed + min(now - looked_at, _STEP_SECONDS_MAX), now
                connection = await self._connect()
                if connection is not None:
                    if serving is not None:
                        serving.cancel()
                        await asyncio.wait((serving,))
                    serving = loop.create_task(self._serve(connection))
                    backoff = _BACKOFF_SECONDS_FIRST
                elif serving is None or serving.done():
                    serving = None
                    # Never before a dial: after standing still, what the clock says tells nothing of workers.
                    if unclaimed > self._unclaimed_seconds_max:
                        return
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, _BACKOFF_SECONDS_MAX)
        finally:
            if serving is not None:
                serving.cancel()
                await asyncio.wait((serving,))

    async def _serve(self, connection: WorkerConnection) -> None:
        with contextlib.suppress(ChronicledError):
            await self._server.serve(connection)

    def _find(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(os.path.join(self._directory, SOCKET_NAME))
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_ctime_ns)

    async def _connect(self) -> WorkerConnection | None:
        """Return a welcomed connection, or None: nobody there, refused, or somebody of a lower fence."""
        found = self._find()
        dialling = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connect(dialling, self._directory, SOCKET_NAME)
        except OSError:
            dialling.close()
            return None
        connection: WorkerConnection = Connection(dialling, frames.ToServer, descriptors_max=2)
        hello = self._hello()
        try:
            connection.post(hello)
            frame, descriptors = await asyncio.wait_for(connection.receive(), _HANDSHAKE_SECONDS)
        except (ChronicledError, TimeoutError):
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        refusal = refuse(self._server, hello, frame, descriptors)
        if refusal is None and isinstance(frame, frames.Welcome):
            self._socket_file = found
            self._unclaimed_seconds_max = frame.unclaimed_seconds_max
            try:
                self._server.adopt(connection, frame, descriptors[0] if descriptors else None)
            except OSError:
                refusal = frames.Refusal(code="protocol-error", message="the result spool cannot be used")
            else:
                return connection
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChronicledError):
            if refusal is not None:
                await asyncio.wait_for(connection.send(refusal), 1.0)
        connection.close()
        await asyncio.sleep(_REFUSED_SECONDS)
        return None


def refuse(
    server: ActionServer, hello: frames.Hello, frame: frames.ToServer, descriptors: list[int]
) -> frames.Refusal | None:
    """Return why a worker that answered `hello` with `frame` is not welcome; None for a good Welcome, or a Refusal."""
    if isinstance(frame, frames.Refusal):
        return None
    if not isinstance(frame, frames.Welcome) or len(descriptors) != (frame.transfer == "descriptors"):
        return frames.Refusal(code="protocol-error", message="the first frame must be Welcome with its result spool")
    spoken = spoken_here()
    if not spoken.lowest <= frame.protocol <= spoken.highest:
        return frames.Refusal(code="protocol-mismatch", message=f"protocol {spoken} is spoken here")
    if frame.fence < server.fence:
        return frames.Refusal(code="stale-fence", message=f"fence {server.fence} has taken over")
    if frame.transfer not in hello.transfers or (frame.transfer == "inband" and frame.window_bytes <= 0):
        return frames.Refusal(code="protocol-error", message=f"transfer {frame.transfer} is not possible here")
    return None
