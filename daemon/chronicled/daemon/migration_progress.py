"""How a migration at the start goes: lines in the log, and word to systemd that the start takes longer."""

from __future__ import annotations

from typing import Any, Final

import structlog

from chronicled.daemon.notify import notify
from chronicled.events.clock import Clock

__all__ = ["MigrationProgress"]

LINE_SECONDS: Final = 5.0
EXTENDED_SECONDS: Final = 120
"""By how much each word to systemd puts off the end of its patience."""

log: Any = structlog.get_logger("chronicled")


class MigrationProgress:
    """Takes the word of a store that migrates; called from its thread, as often as it likes.

    A line for each thing that is done, and one each five seconds while it takes longer.

    Args:
        clock: Time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._what = ""
        self._told = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell what is being done, and how far it is."""
        now = self._clock.monotonic()
        if what == self._what and now - self._told < LINE_SECONDS:
            return
        self._what, self._told = what, now
        percent = 100 * done // total if total else None
        log.info("migrating the log", doing=what, percent=percent)
        status = what if percent is None else f"{what}: {percent} %"
        notify(f"EXTEND_TIMEOUT_USEC={EXTENDED_SECONDS * 1_000_000}\nSTATUS={status}")
