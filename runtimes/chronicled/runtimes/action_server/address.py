"""Unix sockets at paths of any length: the kernel takes 107 bytes, a directory descriptor takes the rest."""

from __future__ import annotations

import os
import socket

__all__ = ["SOCKET_NAME", "bind", "connect"]

SOCKET_NAME = "worker.sock"
_PATH_BYTES_MAX = 107


def bind(listener: socket.socket, directory: str, name: str) -> None:
    """Bind the socket to a name in a directory.

    Raises:
        OSError: the directory is not there, or the name is taken.
    """
    _at(directory, name, listener.bind)


def connect(connecting: socket.socket, directory: str, name: str) -> None:
    """Connect the socket, which must not block, to a name in a directory.

    Raises:
        OSError: nobody listens there (or its queue is full).
    """
    _at(directory, name, connecting.connect)


def _at(directory: str, name: str, act: object) -> None:
    assert callable(act)
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        act(path)
        return
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
