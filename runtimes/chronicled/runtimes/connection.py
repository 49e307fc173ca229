"""The worker's side of the connection: a socket that action servers dial."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Final

from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.address import SOCKET_NAME, bind
from chronicled.runtimes.action_server.connection import Connection

__all__ = ["Listener", "ServerConnection", "listen"]

ServerConnection = Connection[frames.ToWorker]

_BACKLOG: Final = 16


class Listener:
    """A listening socket in a directory of its own. Close it when the sandbox is over."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self._socket = listening
        self._path = path
        status = os.stat(path)
        self._file = (status.st_dev, status.st_ino)

    async def accept(self) -> ServerConnection:
        """Return the next connection; nothing is known of who it is until it has said hello.

        Cancellation: safe.
        """
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(self._socket)
        return Connection(accepted, frames.ToWorker)

    def close(self) -> None:
        """Stop listening; the socket's name goes too unless another listener has it by now. Connections stay."""
        self._socket.close()
        with contextlib.suppress(OSError):
            status = os.stat(self._path)
            if (status.st_dev, status.st_ino) == self._file:
                os.unlink(self._path)


def listen(directory: str, *, mode: int = 0o600) -> Listener:
    """Listen at `worker.sock` in the directory, in place of whoever did before.

    Args:
        directory: An existing folder that nobody else may write to; its path may have any length.
        mode: Access to the socket; 0o666 for a sandbox under another uid, in a folder that only it can reach.

    Raises:
        OSError: the directory is not there or not writable.
    """
    path = os.path.join(directory, SOCKET_NAME)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    temporary = f".{os.getpid()}-{os.urandom(4).hex()}"
    try:
        # Under another name until it listens: a server that dials in between would be refused and back off.
        bind(listening, directory, temporary)
        os.chmod(os.path.join(directory, temporary), mode)
        listening.listen(_BACKLOG)
        os.rename(os.path.join(directory, temporary), path)
        return Listener(listening, path)
    except BaseException:
        listening.close()
        raise
