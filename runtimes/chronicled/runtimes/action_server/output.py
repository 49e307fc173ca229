"""An action's output on its way to the worker: capped, counted, announced."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, Protocol

from chronicled.events import faultpoint

__all__ = ["ActionOutput", "OutputSpool"]

_NOTICE_SECONDS: Final = 0.005


class ActionOutput(Protocol):
    """Where an action's output goes, by whichever way of transfer."""

    @property
    def bytes_total(self) -> int:
        """Everything printed so far, dropped bytes included."""
        ...

    @property
    def bytes_kept(self) -> int:
        """How much of it the worker has or will get: the first bytes, without a gap."""
        ...

    @property
    def bytes_dropped(self) -> int:
        """How much was not kept: beyond the cap, or refused by a full disk."""
        ...

    @property
    def written_at(self) -> float:
        """Loop time of the last byte, or of the moment until which the action was held up on our account."""
        ...

    def write(self, data: memoryview) -> None:
        """Add output. Never fails and never waits: what cannot be kept is counted as dropped, and all after it."""
        ...

    def regulate(self, hold: Callable[[bool], None] | None) -> None:
        """Have `hold` called with True when no more should be read from the action for now, with False when it may.

        Who does not listen fills up a file. None ends it.
        """
        ...

    async def drain(self) -> None:
        """Wait while no more should be written for now. Cancellation: safe."""
        ...

    def close(self) -> None:
        """Say that the action has ended. Idempotent; output after it is counted and dropped."""
        ...


class OutputSpool:
    """Output that goes into the worker's spool file, and keeps the first `bytes_max` bytes of it.

    The bytes are in the file (the kernel's, not the disk's) when `write` returns: they outlive this process.

    Args:
        descriptor: A regular file, written by position; the spool owns it from now on.
        bytes_max: How much to keep.
        notify: Called with the kept size, at most once each 5 ms, from the loop.
    """

    def __init__(self, descriptor: int, bytes_max: int, notify: Callable[[int], None]) -> None:
        self.bytes_total = 0
        self.bytes_kept = 0
        self.written_at = 0.0
        self._descriptor = descriptor
        self._bytes_max = bytes_max
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._notice: asyncio.TimerHandle | None = None

    @property
    def bytes_dropped(self) -> int:
        """How much was not kept: beyond the cap, or refused by a full disk."""
        return self.bytes_total - self.bytes_kept

    def write(self, data: memoryview) -> None:
        """Add output. Never fails: what cannot be stored is counted as dropped, and nothing after it is kept."""
        self.written_at = self._loop.time()
        keep = min(len(data), self._bytes_max - self.bytes_kept)
        if self.bytes_dropped:
            keep = 0
        self.bytes_total += len(data)
        if keep > 0:
            self._store(data[:keep])
            faultpoint.reached("mid_output")
            if self._notice is None:
                self._notice = self._loop.call_later(_NOTICE_SECONDS, self._announce)

    def regulate(self, hold: Callable[[bool], None] | None) -> None:
        """Do nothing: a file takes what comes."""

    async def drain(self) -> None:
        """Return at once: a file takes what comes."""

    def close(self) -> None:
        """Close the file. Idempotent; output after it is counted and dropped."""
        if self._notice is not None:
            self._notice.cancel()
            self._notice = None
        self._bytes_max = 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _store(self, data: memoryview) -> None:
        try:
            while data:
                written = os.pwrite(self._descriptor, data, self.bytes_kept)
                self.bytes_kept += written
                data = data[written:]
        except OSError:
            self._bytes_max = self.bytes_kept

    def _announce(self) -> None:
        self._notice = None
        self._notify(self.bytes_kept)
