"""Who dials: whether a process of this host is one of a container's.

The token proves the same; this keeps out whoever has stolen one, and needs nothing of the engine.
"""

from __future__ import annotations

import os
import re
from typing import Final

from chronicled.runtimes.action_server.connection import Peer

__all__ = ["is_of"]

_CONTAINER: Final = re.compile(r"[0-9a-f]{64}")
"""How engines write a container's id into the names of its control groups."""


def is_of(peer: Peer, container: str) -> bool:
    """Return whether the process can be one of the container; with an empty id, of any container.

    A process of a namespace that cannot be looked into from here (pid 0) can be. Reads `/proc` only.
    """
    if peer.pid <= 0:
        return True
    try:
        with open(f"/proc/{peer.pid}/cgroup", encoding="utf-8", errors="replace") as file:
            named = _CONTAINER.findall(file.read(1 << 16))
        if named:
            return not container or container in named
        # Engines without control groups of their own still give a container its own processes.
        return os.readlink(f"/proc/{peer.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:
        return False
