"""Links over Unix sockets: the worker listens in a sandbox's directory, its action server dials."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.connection import ConnectionLost
from chronicled.runtimes.action_server.frames import ToServer, ToWorker
from chronicled.runtimes.connection import Listener, ServerConnection, listen
from chronicled.runtimes.worker.link import Accept

__all__ = ["UnixLink", "listen_unix"]

UNSENT_BYTES_MAX: Final = 16 << 20
"""A peer that leaves so much unread is cut off."""
CONNECTIONS_MAX: Final = 8
"""Connections of one sandbox at one time; its action server needs one."""

_log = structlog.get_logger("chronicled.worker")


class UnixLink:
    """A link over a connection, which it owns."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._held: list[int] = []

    def send(self, frame: ToServer, descriptor: int | None = None) -> None:
        """Send the frame; see `Link.send`."""
        connection = self._connection
        copies = [] if descriptor is None else [os.dup(descriptor)]
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
        try:
            frame, _ = await self._connection.receive()
        except ConnectionLost:
            return None
        return frame

    def close(self) -> None:
        """End the link. Idempotent."""
        self._connection.close()
        self._release()


@asynccontextmanager
async def listen_unix(directory: str, accept: Accept) -> AsyncGenerator[None]:
    """Listen on `worker.sock` in `directory`; leaving closes the socket and every connection.

    Raises:
        OSError: the socket cannot be bound.

    Cancellation: safe.
    """
    listener = listen(directory)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_accept_all, listener, accept)
            yield
            tasks.cancel_scope.cancel()
    finally:
        listener.close()


async def _accept_all(listener: Listener, accept: Accept) -> None:
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
            connections.start_soon(_serve, UnixLink(connection), accept, room)


async def _serve(link: UnixLink, accept: Accept, room: anyio.CapacityLimiter) -> None:
    try:
        async with room:
            await accept(link)
    finally:
        link.close()
