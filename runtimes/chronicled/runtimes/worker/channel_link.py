"""Links over whatever carries frames: a socket, or the standard streams of a container."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.channel import Channel, ConnectionLost
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.action_server.frames import Hello, Resume, ToServer, ToWorker, Welcome
from chronicled.runtimes.worker.inband import InbandTransfer

__all__ = ["ChannelLink"]

UNSENT_BYTES_MAX: Final = 16 << 20
"""A peer that leaves so much unread is cut off."""

_log = structlog.get_logger("chronicled.worker")


class ChannelLink:
    """A link over a connection, which it owns.

    Args:
        connection: A new one.
        greeted: Called once the peer has proven itself, before it is welcomed.
        token: The generation's, where its Hello was received already.
    """

    def __init__(
        self, connection: Channel[ToWorker], greeted: Callable[[], None] = lambda: None, token: str = ""
    ) -> None:
        self._connection = connection
        self._greeted = greeted
        self._held: list[int] = []
        self._token = token
        self._inband: InbandTransfer | None = None

    @property
    def peer(self) -> Peer | None:
        """Nobody can tell; see `Link.peer`."""
        return None

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
        return self._meet(frame) if isinstance(frame, Hello) else frame

    def _meet(self, hello: Hello) -> Hello:
        self._token = hello.token
        return hello

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
