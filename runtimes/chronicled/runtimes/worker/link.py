"""The worker's end of the connection to one action server, as a seam: the real one is a Unix socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.action_server.frames import ToServer, ToWorker

__all__ = ["Accept", "Link", "Listen"]


class Link(Protocol):
    """One connection of an action server. Frames keep their order; nothing is sent twice."""

    def send(self, frame: ToServer, descriptor: int | None = None, content: int | None = None) -> None:
        """Send the frame, with descriptors (the caller may close its own afterwards). Never blocks, never raises.

        `Welcome` brings the result spool, `Dispatch` and `Resume` the action's output spool and, where it has one, its
        content. By whichever way of transfer `Welcome` names, the spools fill up with what the server has; a notice
        (`Output`) says so. `Resume` may be sent by any way.

        A peer that is gone, or does not read what was sent before, ends the link: `receive` says so.
        """
        ...

    @property
    def peer(self) -> Peer | None:
        """Who is at the other end, as this host's kernel says; None where it cannot."""
        ...

    async def receive(self) -> ToWorker | None:
        """Return the next frame, or None once the link has ended. One caller at a time. Cancellation: safe.

        Raises:
            ProtocolError: the peer sent what is no frame.
        """
        ...

    def close(self) -> None:
        """End the link. Idempotent."""
        ...


Accept = Callable[[Link], Awaitable[None]]
"""Serves one connection until it ends; runs in a task of the listener. Must not raise."""

Listen = Callable[[str, Accept], AbstractAsyncContextManager[None]]
"""Listen on `worker.sock` in a directory for as long as the context lasts; leaving it closes every connection."""
