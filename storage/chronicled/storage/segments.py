"""Segments: 4096 positions each, and for every whole one what it holds of each label, and where the rare ones are.

An index by kind would cost each append a tenth. A segment is counted once, in one statement, when the tree has a
checkpoint behind its end. So a count of the whole log reads some dozens of rows a segment and not every event, and a
reader who wants few of many events goes to where they are.
"""

from __future__ import annotations

import sqlite3
from typing import Final

__all__ = [
    "COUNTED",
    "SEGMENT_EVENTS",
    "TABLE",
    "count_segment",
    "count_some",
    "segments_counted",
    "segments_whole",
]

SEGMENT_EVENTS: Final = 4096
PLACES_MAX: Final = 128
"""Events of one tenant and label in a segment up to which their places are kept; of more it is said only how many."""
BATCH_SEGMENTS: Final = 16
"""Segments that a migration counts in one transaction."""

TABLE: Final = (
    "CREATE TABLE segment_label (segment INTEGER NOT NULL, tenant INTEGER NOT NULL, label INTEGER NOT NULL,"
    " events INTEGER NOT NULL, places TEXT, PRIMARY KEY (segment, tenant, label)) STRICT, WITHOUT ROWID"
)
COUNTED: Final = f"""
SELECT :segment, tenant, label, count(*),
  CASE WHEN count(*) <= {PLACES_MAX} THEN group_concat(position - :before, ' ') END
FROM event WHERE position > :before AND position <= :before + {SEGMENT_EVENTS} GROUP BY tenant, label
"""
"""The rows of one segment, counted from the log itself."""
COUNT: Final = f"INSERT INTO segment_label {COUNTED}"


def segments_whole(head: int) -> int:
    """Return how many segments are whole in a log of that head."""
    return head // SEGMENT_EVENTS


def segments_counted(connection: sqlite3.Connection) -> int:
    """Return how many segments, from the first on, are counted."""
    (newest,) = connection.execute("SELECT max(segment) FROM segment_label").fetchone()
    return 0 if newest is None else int(newest) + 1


def count_segment(connection: sqlite3.Connection, segment: int) -> None:
    """Count a whole segment, within the transaction that is open: a millisecond."""
    connection.execute(COUNT, {"segment": segment, "before": segment * SEGMENT_EVENTS})


def count_some(connection: sqlite3.Connection, cursor: int) -> int | None:
    """Count some segments of a log that was written before they were; `cursor` is how many events are counted.

    Returns the next cursor, None when every whole segment is counted.
    """
    (head,) = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
    first = cursor // SEGMENT_EVENTS
    last = min(segments_whole(head), first + BATCH_SEGMENTS)
    for segment in range(first, last):
        count_segment(connection, segment)
    return last * SEGMENT_EVENTS if last < segments_whole(head) else None
