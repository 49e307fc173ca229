"""Links over Unix sockets: the worker listens in a sandbox's directory, its action server dials."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import anyio
import structlog

from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.connection import Listener, ServerConnection, listen
from chronicled.runtimes.worker.channel_link import ChannelLink
from chronicled.runtimes.worker.link import Accept

__all__ = ["UnixLink", "listen_unix"]

CONNECTIONS_MAX: Final = 8
"""Connections of one sandbox at one time; its action server needs one."""

SETTINGS_NAME: Final = "settings"

_log = structlog.get_logger("chronicled.worker")


class UnixLink(ChannelLink):
    """A link over a Unix socket.

    Args:
        connection: A new one.
        greeted: Called once the peer has proven itself, before it is welcomed.
        token: The generation's, where its Hello was received already.
    """

    def __init__(
        self, connection: ServerConnection, greeted: Callable[[], None] = lambda: None, token: str = ""
    ) -> None:
        super().__init__(connection, greeted, token)
        self._peer = connection.peer

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end; see `Link.peer`."""
        return self._peer


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
