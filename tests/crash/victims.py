"""The processes that get killed: found through the log and through /proc, never through the product's memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from tests.crash.ledger import Ledger, Seen

__all__ = ["Servers", "processes_of"]


class Servers:
    """Every action server that has reported in, with a pidfd each: a number that is used again fools nobody."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._descriptors: dict[str, int] = {}
        self._killed: set[str] = set()
        self.watched: set[str] = set()
        """Generations whose servers were started by the daemon that runs now: these carry its fault point."""
        self.fallen: list[str] = []
        """Watched generations whose server ended though nobody of ours killed it."""
        self.fell = asyncio.Event()

    def notice(self, event: Seen) -> None:
        """Take a pidfd on a generation that has just started; let go of one that has ended."""
        if event.kind == "generation_started":
            generation = event.payload["generation"]
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(int(event.payload["handle"]["pid"]))
                self._descriptors[generation] = descriptor
                asyncio.get_running_loop().add_reader(descriptor, self._exited, generation)
        elif event.kind == "generation_ended":
            self._drop(event.payload["generation"])

    @property
    def alive(self) -> list[str]:
        """Generations whose server runs."""
        return list(self._descriptors)

    def kill(self, generation: str) -> bool:
        """Kill the server of a generation with SIGKILL; False when it was gone already."""
        descriptor = self._descriptors.get(generation)
        if descriptor is None:
            return False
        self._killed.add(generation)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Let go of all."""
        for generation in list(self._descriptors):
            self._drop(generation)

    def _exited(self, generation: str) -> None:
        self._drop(generation)
        if generation in self.watched and generation not in self._killed:
            self.fallen.append(generation)
            self.fell.set()

    def _drop(self, generation: str) -> None:
        descriptor = self._descriptors.pop(generation, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


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
