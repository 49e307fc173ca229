"""systemd's notification protocol: one datagram a message, nothing when nobody asked for it."""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["notify"]


def notify(message: str) -> None:
    """Send `message` (e.g. `READY=1`) to the socket that `NOTIFY_SOCKET` names; what fails is ignored."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    # A leading `@` means the abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(message.encode(), address)
