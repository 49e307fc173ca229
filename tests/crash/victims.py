"""The processes that get killed: found through the log and through /proc, never through the product's memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from tests.crash.ledger import Seen

__all__ = ["Servers", "children_of", "processes_of", "start_ticks"]


class Servers:
    """Every action server that has reported in, with a pidfd each: a number that is used again fools nobody."""

    def __init__(self) -> None:
        self._servers: dict[str, int] = {}
        self._reapers: dict[str, int] = {}
        self._killed: set[str] = set()
        self.watched: set[str] = set()
        """Generations that were started by the daemon that runs now: these carry its fault point."""
        self.fallen: list[str] = []
        """Watched generations whose server ended though nobody of ours killed it."""

    def notice(self, event: Seen) -> None:
        """Take hold of a generation that has just started; let go of one that has ended."""
        generation = event.payload.get("generation", "")
        if event.kind == "generation_started":
            reaper = int(event.payload["handle"]["pid"])
            with contextlib.suppress(ProcessLookupError, StopIteration):
                self._reapers[generation] = os.pidfd_open(reaper)
                # The server is the first that the reaper forks, lane reapers follow.
                server = next(iter(sorted(children_of(reaper), key=start_ticks)))
                descriptor = self._servers[generation] = os.pidfd_open(server)
                asyncio.get_running_loop().add_reader(descriptor, self._exited, generation)
        elif event.kind == "generation_ended":
            self._drop(generation)

    @property
    def alive(self) -> list[str]:
        """Generations whose server runs."""
        return list(self._servers)

    def kill(self, generation: str, *, reaper: bool) -> bool:
        """Kill the server of a generation, or the reaper above it, with SIGKILL; False when it was gone already."""
        self._killed.add(generation)
        try:
            signal.pidfd_send_signal((self._reapers if reaper else self._servers)[generation], signal.SIGKILL)
        except (KeyError, ProcessLookupError):
            return False
        return True

    def close(self) -> None:
        """Let go of all."""
        for generation in {*self._servers, *self._reapers}:
            self._drop(generation)

    def _exited(self, generation: str) -> None:
        self._drop(generation)
        if generation in self.watched and generation not in self._killed:
            self.fallen.append(generation)

    def _drop(self, generation: str) -> None:
        server = self._servers.pop(generation, None)
        if server is not None:
            asyncio.get_running_loop().remove_reader(server)
            os.close(server)
        reaper = self._reapers.pop(generation, None)
        if reaper is not None:
            os.close(reaper)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def start_ticks(pid: int) -> int:
    """Return when a process began; for one that is gone, later than any other."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return 1 << 62


def processes_of(marks: set[str]) -> dict[int, str]:
    """Return the living processes whose environment or command line names one of the marks (generation ids).

    Zombies have neither and do not count: they run nothing.
    """
    found: dict[int, str] = {}
    wanted = [mark.encode() for mark in marks]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if any(mark in text for mark in wanted):
                found[int(entry.name)] = text.replace(b"\0", b" ")[-300:].decode(errors="replace")
    return found
