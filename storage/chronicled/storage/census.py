"""What kinds and versions a log holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events.envelope import CATEGORIES, Category
from chronicled.events.errors import LogCorrupt
from chronicled.storage.connection import open_reader
from chronicled.storage.segments import SEGMENT_EVENTS, segments_counted

__all__ = ["KindCount", "count_kinds"]

COUNTED_ROWS: Final = "SELECT label, sum(events) AS events FROM segment_label GROUP BY label"


class KindCount(msgspec.Struct, frozen=True):
    """How many events of a kind at a version."""

    category: Category
    kind: str
    version: int
    events: int


def count_kinds(path: Path) -> tuple[KindCount, ...]:
    """Count the events of the log at `path` by kind and version, on a read-only connection; beside a daemon too.

    Adds up the counts of the segments, and counts what lies behind them: some hundred rows for a million events.

    Raises:
        LogCorrupt: it cannot be read.
    """
    try:
        with closing(open_reader(path)) as connection:
            connection.execute("BEGIN")
            behind = _counted_events(connection)
            rows = connection.execute(
                "SELECT label.category, label.kind, label.version, sum(used.events) FROM ("
                f"{f'{COUNTED_ROWS} UNION ALL' if behind else ''}"
                " SELECT label, count(*) AS events FROM event WHERE position > ? GROUP BY label) AS used"
                " JOIN label ON label.number = used.label GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                (behind,),
            ).fetchall()
    except sqlite3.Error as error:
        raise LogCorrupt(f"The log's database cannot be read: {error}.") from None
    return tuple(KindCount(CATEGORIES[int(category) - 1], *rest) for category, *rest in rows)


def _counted_events(connection: sqlite3.Connection) -> int:
    # A log that was not brought to this version yet has no counts; it can be asked all the same.
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'segment_label'").fetchone() is None:
        return 0
    return segments_counted(connection) * SEGMENT_EVENTS
