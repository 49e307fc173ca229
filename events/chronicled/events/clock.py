"""Time, through one seam, so that tests and simulations can own it."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Protocol

__all__ = ["Clock", "SystemClock", "format_time", "parse_time"]


class Clock(Protocol):
    """Where time comes from. Wall time is information; only the monotonic clock measures deadlines."""

    def now_us(self) -> int:
        """Return wall time as microseconds since 1970-01-01 UTC; may step backwards."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never steps; only differences mean anything, within one process."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Return the system's wall time in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Return the system's monotonic clock in seconds."""
        return time.monotonic()


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # Events of one second share this prefix; formatting it once a second instead of once an event saves 1 us each.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def format_time(microseconds: int) -> str:
    """Render microseconds since 1970 as RFC 3339 in UTC with six decimals, e.g. `2026-11-21T04:00:00.000001Z`."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


def parse_time(text: str) -> int:
    """Read what `format_time` wrote, back into microseconds since 1970.

    Raises:
        ValueError: `text` is not of that exact form.
    """
    if len(text) != 27 or text[19] != "." or text[26] != "Z":
        raise ValueError(f"not an RFC 3339 UTC time with microseconds: {text!r}")
    return _seconds(text[:19]) * 1_000_000 + int(text[20:26])


@lru_cache(maxsize=64)
def _seconds(prefix: str) -> int:
    import calendar

    return calendar.timegm(time.strptime(prefix, "%Y-%m-%dT%H:%M:%S"))
