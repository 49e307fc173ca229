"""Times of other systems: read as UTC where that can be done, and never guessed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from chronicled.events.errors import InvalidRequest

__all__ = ["utc_reader"]


def utc_reader(timezone: str | None) -> Callable[[str], str | None]:
    """Return what reads a time as UTC (RFC 3339), with the zone in which times without one were written.

    It gives None for what is no time, and for a time without a zone where none is known. Of an hour that a clock showed
    twice the first is taken. Order never comes from it: records stay in the order of their source.

    Raises:
        InvalidRequest: there is no such zone.
    """
    try:
        zone = None if timezone is None else ZoneInfo(timezone)
    except (LookupError, ValueError, OSError):
        raise InvalidRequest(f"There is no time zone {timezone!r}; it is named as Europe/Berlin or UTC are.") from None

    def read(text: str) -> str | None:
        try:
            time = datetime.fromisoformat(text)
            if time.tzinfo is None:
                if zone is None:
                    return None
                time = time.replace(tzinfo=zone)
            return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        except (ValueError, OverflowError):
            return None

    return read
