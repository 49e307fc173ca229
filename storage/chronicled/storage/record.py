"""One event as the log stores it, what of it goes to readers, and what each session's last one carries along."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from chronicled.events.clock import format_time
from chronicled.events.envelope import CATEGORIES, LIFECYCLE, Category
from chronicled.events.opaque import ERASED
from chronicled.storage.leaf import NO_DIGEST

__all__ = ["CATEGORY_NUMBERS", "ERASED", "Label", "LabelKey", "SessionState", "StoredEvent", "time_text"]

CATEGORY_NUMBERS: Final[dict[Category, int]] = {name: number for number, name in enumerate(CATEGORIES, 1)}
LIFECYCLE_NUMBER: Final = CATEGORY_NUMBERS[LIFECYCLE]


class Label(NamedTuple):
    """What many events have in common, stored once under a number.

    That spares a third of the columns in each row: 1 us in writing it, half a microsecond in reading it, 30 bytes.
    """

    category: int
    kind: str
    version: int
    lane: str
    source: str
    actor: str


LabelKey = tuple[int, str, int, str, str, str]
"""A `Label` as a bare tuple, which is made faster."""


class StoredEvent(NamedTuple):
    """A row of the log, in the order of the table's columns."""

    position: int
    session: int
    sequence: int
    tenant: int
    id: bytes
    label: int
    cause: bytes | None
    terminal: int
    time: int
    request: bytes | None
    traceparent: str | None
    client_sequence: int
    fence: int
    closed: int
    leaf: bytes
    salt: bytes | None
    payload: bytes | None


class SessionState(msgspec.Struct, frozen=True, gc=False):
    """What the writer knows of a session; its last row carries all of it, so that nothing else need be stored."""

    number: int
    tenant: int
    sequence: int = -1
    """Of the newest event."""
    client_sequence: int = -1
    """Of the newest event that a client submitted."""
    fence: int = 0
    """Position of the newest claim, 0 when there is none."""
    closed: bool = False
    leaf: bytes = NO_DIGEST
    """Of the newest event."""

    def after(self, position: int, category: int, kind: str, source: str, leaf: bytes) -> SessionState:
        """Return the state behind the session's next event."""
        sequence = self.sequence + 1
        fence, closed = self.fence, self.closed
        if category == LIFECYCLE_NUMBER:
            if kind == "session_claimed":
                fence = position
            elif kind in {"session_closed", "session_imported"}:
                closed = True
        client_sequence = sequence if source == "client" else self.client_sequence
        return SessionState(self.number, self.tenant, sequence, client_sequence, fence, closed, leaf)


# Events of one commit share their time: rendering it once a commit saves half a microsecond an event.
time_text = lru_cache(maxsize=16)(format_time)
"""`format_time`, remembered."""
