"""Where a filter's events are: the places that segments tell, and the stretches that must be looked through."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from chronicled.storage.segments import SEGMENT_EVENTS, segments_counted, segments_whole

__all__ = ["SCAN_EVENTS_MAX", "WantedRows", "WantedSessionRows", "sequence_behind"]

SCAN_EVENTS_MAX: Final = 10_000
"""Events looked at for one page, wanted or not: past them, a page is empty and its cursor advanced."""
SEGMENTS_MAX: Final = 1024
"""Segments whose counts are looked at for one page: four million events."""
PLACES_MAX: Final = 256
"""Events fetched by their places in one statement."""
PLACES_FEW: Final = 64
"""Places that are fetched without asking whether the session has even fewer events around them."""

POSITION_AT: Final = "SELECT position FROM event WHERE session = ? AND sequence = ?"
NEWEST: Final = "SELECT max(sequence) FROM event WHERE session = ?"


class WantedRows:
    """Rows of the events that a filter admits, in position order; `reached` tells how far it has looked.

    Args:
        connection: To the log.
        columns: What of each event is wanted.
        tests: The filter as conditions on the columns `tenant` and `label`, each begun with ` AND `; `{0}` stands for
            the table that they are asked of.
        values: What the conditions refer to.
    """

    def __init__(self, connection: sqlite3.Connection, columns: str, tests: str, values: Sequence[Any]) -> None:
        self._connection = connection
        self._columns = columns
        self._tests = tests.format("event")
        self._values: tuple[Any, ...] = tuple(values)
        self._counts_tests = tests.format("segment_label")
        self._counts_values: tuple[Any, ...] = tuple(values)
        self._looked: int = 0
        self.reached = 0
        """Every wanted event up to here has been given."""

    def behind(self, after: int, head: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows behind `after`, up to `head`, until enough was looked at: then `reached` lies before `head`."""
        self.reached = after
        # The log may have gone on behind `head`: a segment that reaches beyond it is looked through.
        counted = min(segments_counted(self._connection), segments_whole(head)) * SEGMENT_EVENTS
        if after < counted:
            yield from self._counted(after, counted)
        if self._looked < SCAN_EVENTS_MAX and self.reached >= counted:
            yield from self._through(self.reached, head)

    def _counted(self, after: int, end: int) -> Iterator[tuple[Any, ...]]:
        first = after // SEGMENT_EVENTS
        last = min(first + SEGMENTS_MAX, end // SEGMENT_EVENTS)
        sql = (
            "SELECT segment, max(places IS NULL), group_concat(places, ' ') FROM segment_label"
            f" WHERE segment >= ? AND segment < ?{self._counts_tests} GROUP BY segment ORDER BY segment"
        )
        for segment, some_missing, places in self._connection.execute(sql, (first, last, *self._counts_values)):
            before = segment * SEGMENT_EVENTS
            stop = before + SEGMENT_EVENTS
            self.reached = start = max(after, before)
            if some_missing:
                yield from self._through(start, stop)
            else:
                known = sorted(each for place in places.split() if (each := before + int(place)) > start)
                yield from self._among(known, start, stop)
            if self._looked >= SCAN_EVENTS_MAX:
                return
        self.reached = max(self.reached, last * SEGMENT_EVENTS)

    def _through(self, after: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Look at all that lies behind `after`, up to `last` or as far as is allowed."""
        last = min(last, after + SCAN_EVENTS_MAX - self._looked)
        sql = f"SELECT {self._columns} FROM event WHERE position > ? AND position <= ?{self._tests} ORDER BY position"
        yield from self._connection.execute(sql, (after, last, *self._values))
        self._looked += last - after
        self.reached = last

    def _among(self, positions: Sequence[int], after: int, last: int) -> Iterator[tuple[Any, ...]]:
        """Look at the places where wanted events are known to lie, which are all between `after` and `last`."""
        rest = iter(positions)
        while chunk := list(islice(rest, PLACES_MAX)):
            marks = ", ".join("?" * len(chunk))
            sql = f"SELECT {self._columns} FROM event WHERE position IN ({marks}){self._tests} ORDER BY position"
            yield from self._connection.execute(sql, (*chunk, *self._values))
            self._looked += len(chunk)
        self.reached = last


class WantedSessionRows(WantedRows):
    """The same within one session, whose events are found by their sequence.

    Segments tell where events of the wanted labels are, of all sessions of the tenant: what is looked at in each are
    those places, or the session's own events, whichever are fewer.

    Args:
        session: The session's number.
        tenant: Its tenant's number.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        columns: str,
        tests: str,
        values: Sequence[Any],
        session: int,
        tenant: int,
    ) -> None:
        super().__init__(connection, columns, tests, values)
        self._tests = f" AND event.session = ?{self._tests}"
        self._values = (session, *values)
        self._counts_tests = f" AND segment_label.tenant = ?{self._counts_tests}"
        self._counts_values = (tenant, *values)
        self._session = session

    def behind(self, after: int, head: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows behind `after`, up to `head`, until enough was looked at: then `reached` lies before `head`."""
        beyond = self._position(self._sequence_behind(after) + SCAN_EVENTS_MAX)
        if beyond is None or beyond > head:
            # So few that one page looks at them all.
            yield from self._through(after, head)
        else:
            yield from super().behind(after, head)

    def _sequence_behind(self, after: int) -> int:
        return sequence_behind(self._connection, self._session, after)

    def _position(self, sequence: int) -> int | None:
        found = self._connection.execute(POSITION_AT, (self._session, sequence)).fetchone()
        return None if found is None else int(found[0])

    def _through(self, after: int, last: int) -> Iterator[tuple[Any, ...]]:
        first = self._sequence_behind(after)
        # The first that may not be looked at any more.
        beyond = self._position(first + SCAN_EVENTS_MAX - self._looked)
        if beyond is not None:
            last = min(last, beyond - 1)
        sql = f"SELECT {self._columns} FROM event WHERE sequence >= ? AND position <= ?{self._tests} ORDER BY sequence"
        yield from self._connection.execute(sql, (first, last, *self._values))
        self._looked += self._sequence_behind(last) - first
        self.reached = last

    def _among(self, positions: Sequence[int], after: int, last: int) -> Iterator[tuple[Any, ...]]:
        if len(positions) > PLACES_FEW and self._sequence_behind(last) - self._sequence_behind(after) < len(positions):
            yield from self._through(after, last)
        else:
            yield from super()._among(positions, after, last)


def sequence_behind(connection: sqlite3.Connection, session: int, after: int) -> int:
    """Find by halving the first sequence of the session that lies behind position `after`.

    Sequences rise with positions, and each step is one look into the index on (session, sequence), which holds the
    position too: this spares an index on (session, position).
    """
    (newest,) = connection.execute(NEWEST, (session,)).fetchone()
    low, high = 0, newest + 1
    while low < high:
        middle = (low + high) // 2
        (position,) = connection.execute(POSITION_AT, (session, middle)).fetchone()
        if position <= after:
            low = middle + 1
        else:
            high = middle
    return low
