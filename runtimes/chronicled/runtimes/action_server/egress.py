"""The forwarder: what dials the loopback of the sandbox reaches the worker's proxy over a Unix socket.

A sandbox without any network has its loopback still. Commands find the proxy there (`HTTPS_PROXY` and its kin); who is
allowed what is decided on the other side. It is a process of its own, forked by the reaper: many bytes through it cost
the action server nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time

from chronicled.runtimes.action_server.address import connect

__all__ = ["EGRESS_SOCKET", "Forwarder", "main"]

EGRESS_SOCKET = "egress.sock"
_BUFFER_BYTES = 256 << 10
_CONNECTIONS_MAX = 1024
_BACKLOG = 128
_FULL_SECONDS = 0.05
_TAKEN_SECONDS = 0.5
_AWAY_SECONDS = 0.1
_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"chronicled: the proxy of this sandbox is away; try again in a moment.\n"
)


def main(port: int, directory: str) -> None:
    """Forward from a port of the loopback to the socket in the directory, until killed."""
    while True:
        try:
            forwarder = Forwarder(port, directory)
        except OSError:
            # A command has the port: the sandbox has no proxy for as long as it keeps it.
            time.sleep(_TAKEN_SECONDS)
            continue
        forwarder.run()


class _Way:
    """One direction of a connection: what was read of the one side and is not written to the other yet."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.held = b""
        self.ended = False
        """The source has no more."""
        self.closed = False
        """The target was told so."""

    def read(self) -> None:
        """Take what there is; OSError ends the connection."""
        try:
            self.held = self.source.recv(_BUFFER_BYTES)
        except BlockingIOError:
            return
        self.ended = not self.held

    def write(self) -> None:
        """Pass on what the target takes; OSError ends the connection."""
        if self.held:
            with contextlib.suppress(BlockingIOError):
                self.held = self.held[self.target.send(self.held) :]
        if self.ended and not self.held and not self.closed:
            self.closed = True
            self.target.shutdown(socket.SHUT_WR)


class Forwarder:
    """The forwarder's loop.

    Args:
        port: Of the loopback; 0 takes any.
        directory: Folder of the proxy's socket.

    Raises:
        OSError: somebody else has the port.
    """

    def __init__(self, port: int, directory: str) -> None:
        self._directory = directory
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # A forwarder that takes the place of a dead one finds its connections still waiting to be forgotten.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(_BACKLOG)
        self.port = int(self._listener.getsockname()[1])
        self._poll = select.epoll()
        self._poll.register(self._listener.fileno(), select.EPOLLIN)
        self._ways: dict[int, tuple[_Way, _Way]] = {}
        """By descriptor of either side: what comes from it, and what goes to it."""
        self._watched: dict[int, int | None] = {}

    def run(self) -> None:
        """Forward for ever."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._listener.fileno():
                    self._accept()
                elif descriptor in self._ways:
                    self._serve(descriptor)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # Out of descriptors: whoever waits is served once others have ended.
            time.sleep(_FULL_SECONDS)
            return
        near.setblocking(False)
        far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if len(self._ways) >= 2 * _CONNECTIONS_MAX:
                raise BlockingIOError
            connect(far, self._directory, EGRESS_SOCKET)
        except OSError:
            far.close()
            _say_away(near)
            return
        out, back = _Way(near, far), _Way(far, near)
        self._ways[near.fileno()] = (out, back)
        self._ways[far.fileno()] = (back, out)
        for way in (out, back):
            self._watch(way)

    def _serve(self, descriptor: int) -> None:
        come, go = self._ways[descriptor]
        try:
            if not come.held and not come.ended:
                come.read()
            come.write()
            go.write()
        except OSError:
            self._end(come)
            return
        if come.closed and go.closed:
            self._end(come)
            return
        for way in (come, go):
            self._watch(way)

    def _watch(self, way: _Way) -> None:
        """Wait for what the source of a way can do next, whichever way it stands in."""
        descriptor = way.source.fileno()
        come, go = self._ways[descriptor]
        wanted = 0 if come.held or come.ended else select.EPOLLIN
        if go.held:
            wanted |= select.EPOLLOUT
        before = self._watched.get(descriptor)
        if wanted and before is None:
            self._poll.register(descriptor, wanted)
        elif wanted and before != wanted:
            self._poll.modify(descriptor, wanted)
        elif not wanted and before is not None:
            # Even with nothing to wait for the kernel would tell of a side that hung up, over and over.
            self._poll.unregister(descriptor)
        self._watched[descriptor] = wanted or None

    def _end(self, way: _Way) -> None:
        for side in (way.source, way.target):
            del self._ways[side.fileno()]
            if self._watched.pop(side.fileno(), None):
                self._poll.unregister(side.fileno())
            side.close()


def _say_away(near: socket.socket) -> None:
    """Answer that the proxy is away, and close."""
    with contextlib.closing(near), contextlib.suppress(OSError):
        # Closed with its request unread, the connection would be reset, and the answer lost with it.
        near.settimeout(_AWAY_SECONDS)
        with contextlib.suppress(TimeoutError):
            near.recv(_BUFFER_BYTES)
        near.sendall(_AWAY)
        near.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]), os.path.abspath(sys.argv[2]))
