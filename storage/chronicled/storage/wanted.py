"""Where a filter's events are: the places that segments tell, and the stretches that must be looked through."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from chronicled.storage.segments import SEGMENT_EVENTS, segments_counted, segments_whole

__all__ = ["SCAN_EVENTS_MAX", "WantedRows"]

SCAN_EVENTS_MAX: Final = 10_000
"""Events looked at for one page, wanted or not: past them, a page is empty and its cursor advanced."""
SEGMENTS_MAX: Final = 1024
"""Segments whose counts are looked at for one page: four million events."""
PLACES_MAX: Final = 256
"""Events fetched by their places in one statement."""


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
        self._counts_tests = tests.format("segment_label")
        self._values = values
        self._looked = 0
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
            last = min(head, self.reached + SCAN_EVENTS_MAX - self._looked)
            yield from self._through(self.reached, last)

    def _counted(self, after: int, end: int) -> Iterator[tuple[Any, ...]]:
        first = after // SEGMENT_EVENTS
        last = min(first + SEGMENTS_MAX, end // SEGMENT_EVENTS)
        sql = (
            "SELECT segment, max(places IS NULL), group_concat(places, ' ') FROM segment_label"
            f" WHERE segment >= ? AND segment < ?{self._counts_tests} GROUP BY segment ORDER BY segment"
        )
        for segment, some_missing, places in self._connection.execute(sql, (first, last, *self._values)):
            before = segment * SEGMENT_EVENTS
            start = max(after, before)
            self.reached = start
            if some_missing:
                stop = min(before + SEGMENT_EVENTS, start + SCAN_EVENTS_MAX - self._looked)
                yield from self._through(start, stop)
            else:
                yield from self._at(sorted(each for place in places.split() if (each := before + int(place)) > start))
                self.reached = before + SEGMENT_EVENTS
            if self._looked >= SCAN_EVENTS_MAX:
                return
        self.reached = max(self.reached, last * SEGMENT_EVENTS)

    def _through(self, after: int, last: int) -> Iterator[tuple[Any, ...]]:
        sql = f"SELECT {self._columns} FROM event WHERE position > ? AND position <= ?{self._tests} ORDER BY position"
        yield from self._connection.execute(sql, (after, last, *self._values))
        self._looked += last - after
        self.reached = last

    def _at(self, positions: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        rest = iter(positions)
        while chunk := list(islice(rest, PLACES_MAX)):
            marks = ", ".join("?" * len(chunk))
            sql = f"SELECT {self._columns} FROM event WHERE position IN ({marks}){self._tests} ORDER BY position"
            yield from self._connection.execute(sql, (*chunk, *self._values))
            self._looked += len(chunk)
