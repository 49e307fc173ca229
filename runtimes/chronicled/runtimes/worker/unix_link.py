"""Links over Unix sockets: the worker listens in a sandbox's directory, its action server dials."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import anyio
import structlog

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.connection import ConnectionLost, Peer
from chronicled.runtimes.action_server.frames import Hello, Resume, ToServer, ToWorker, Welcome
from chronicled.runtimes.connection import Listener, ServerConnection, listen
from chronicled.runtimes.worker.inband import InbandTransfer
from chronicled.runtimes.worker.link import Accept

__all__ = ["UnixLink", "listen_unix"]

UNSENT_BYTES_MAX: Final = 16 << 20
"""A peer that leaves so much unread is cut off."""
CONNECTIONS_MAX: Final = 8
"""Connections of one sandbox at one time; its action server needs one."""

SETTINGS_NAME: Final = "settings"

_log = structlog.get_logger("chronicled.worker")


class UnixLink:
    """A link over a connection, which it owns.

    Args:
        connection: A new one.
        greeted: Called once the peer has proven itself, before it is welcomed.
        token: The generation's, where its Hello was received already.
    """

    def __init__(
        self, connection: ServerConnection, greeted: Callable[[], None] = lambda: None, token: str = ""
    ) -> None:
        self._connection = connection
        self._greeted = greeted
        self._held: list[int] = []
        self._token = token
        self._inband: InbandTransfer | None = None

    @property
    def peer(self) -> Peer:
        """Who is at the other end; see `Link.peer`."""
        return self._connection.peer

    def send(self, frame: ToServer, descriptor: int | None = None, content: int | None = None) -> None:
        """Send the frame; see `Link.send`."""
        if isinstance(frame, Welcome):
            self._greeted()
            if frame.transfer == "inband" and descriptor is not None and self._inband is None:
                self._inband = InbandTransfer(self._post, self._token, os.dup(descriptor))
                self._post(InbandTransfer.welcome(frame))
                return
        if self._inband is not None:
            self._inband.send(frame, descriptor, content)
        elif not isinstance(frame, Resume):
            # With descriptors an action's spools are the server's for as long as it runs.
            self._post(frame, [each for each in (descriptor, content) if each is not None])

    def _post(self, frame: ToServer, descriptors: Sequence[int] = ()) -> None:
        connection = self._connection
        copies = [os.dup(descriptor) for descriptor in descriptors]
        try:
            connection.post(frame, copies)
        except (ConnectionLost, ProtocolError) as error:
            _log.debug("send_failed", detail=error.detail)
        self._held += copies
        if connection.unsent_bytes > UNSENT_BYTES_MAX:
            connection.close()
        if not connection.unsent_bytes:
            self._release()

    def _release(self) -> None:
        while self._held:
            os.close(self._held.pop())

    async def receive(self) -> ToWorker | None:
        """Return the next frame, or None; see `Link.receive`."""
        if self._inband is not None:
            return await self._receive_inband(self._inband)
        try:
            frame, _ = await self._connection.receive()
        except ConnectionLost:
            return None
        if isinstance(frame, Hello):
            self._token = frame.token
        return frame

    async def _receive_inband(self, inband: InbandTransfer) -> ToWorker | None:
        inband.resume_unheard()
        while not inband.ready:
            try:
                frame, _ = await self._connection.receive()
            except ConnectionLost:
                return None
            await inband.take(frame, self._following)
        return inband.ready.popleft()

    def _following(self) -> ToWorker | None:
        received = self._connection.receive_ready()
        return None if received is None else received[0]

    def close(self) -> None:
        """End the link. Idempotent."""
        self._connection.close()
        self._release()
        if self._inband is not None:
            self._inband.close()


@asynccontextmanager
async def listen_unix(directory: str, accept: Accept) -> AsyncGenerator[None]:
    """Listen on `worker.sock` in `directory`; leaving closes the socket and every connection.

    A file `settings` there, by which a server was told who it is, goes before the server is welcomed.

    Raises:
        OSError: the socket cannot be bound.

    Cancellation: safe.
    """
    # A sandbox may be under any user. Who is not root or us gets no further than the folder of all sockets (0700).
    listener = listen(directory, mode=0o666)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_accept_all, listener, accept, partial(_remove_settings, directory))
            yield
            tasks.cancel_scope.cancel()
    finally:
        listener.close()


def _remove_settings(directory: str) -> None:
    # From here on commands may run there; the token is nothing for them.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, SETTINGS_NAME))


async def _accept_all(listener: Listener, accept: Accept, greeted: Callable[[], None]) -> None:
    room = anyio.CapacityLimiter(CONNECTIONS_MAX)
    async with anyio.create_task_group() as connections:
        while True:
            try:
                connection = await listener.accept()
            except OSError as error:
                # Out of descriptors, or the peer was gone already: the next one may be luckier.
                _log.warning("accept_failed", error=error.strerror)
                await anyio.sleep(0.1)
                continue
            if room.available_tokens < 1:
                connection.close()
                continue
            connections.start_soon(_serve, UnixLink(connection, greeted), accept, room)


async def _serve(link: UnixLink, accept: Accept, room: anyio.CapacityLimiter) -> None:
    try:
        async with room:
            await accept(link)
    finally:
        link.close()
