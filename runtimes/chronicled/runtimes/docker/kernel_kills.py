"""How often the kernel has killed in a container for want of memory, by its own count.

An engine tells of it in notices, which come late, several for one want, or not at all after a restart. The count is
exact at any moment: it rises before anybody can see the process dead.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["KernelKills"]

_FIELD: Final = "oom_kill"
_MEMORY: Final = "/sys/fs/cgroup/memory"
_UNIFIED: Final = "/sys/fs/cgroup"


class KernelKills:
    """The count of one container of this machine.

    Args:
        process: Number of its first process here; 0 where that is not known.
        container: Its id, after which engines name the cgroup: another one's count says nothing.
    """

    def __init__(self, process: int, container: str) -> None:
        self._path = _path(process, container)

    def read(self) -> int | None:
        """Return the count; None where it cannot be read: another machine, a container that is over. No wait."""
        if self._path is None:
            return None
        try:
            with open(self._path, encoding="ascii") as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == _FIELD:
                        return int(value)
        except (OSError, ValueError):
            pass
        return None


def _path(process: int, container: str) -> str | None:
    if process <= 0 or not container:
        return None
    found: str | None = None
    try:
        with open(f"/proc/{process}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if container not in path:
            continue
        if "memory" in controllers.split(","):
            # The first form of cgroups has a tree for each controller.
            return os.path.join(_MEMORY, path.lstrip("/"), "memory.oom_control")
        if number == "0":
            found = os.path.join(_UNIFIED, path.lstrip("/"), "memory.events")
    return found
