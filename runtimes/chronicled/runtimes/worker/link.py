"""The worker's end of the connection to one action server, as a seam: the real one is a Unix socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from chronicled.runtimes.action_server.frames import ToServer, ToWorker

__all__ = ["Accept", "Link", "Listen"]


class Link(Protocol):
    """One connection of an action server. Frames keep their order; nothing is sent twice."""

    def send(self, frame: ToServer, descriptor: int | None = None) -> None:
        """Send the frame, with the descriptor (the caller may close its own afterwards). Never blocks, never raises.

        A peer that is gone, or does not read what was sent before, ends the link: `receive` says so.
        """
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
