"""Verification of a log in an SQLite file, beside a running daemon or without one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from chronicled.events.errors import LogCorrupt
from chronicled.storage.connection import open_reader
from chronicled.storage.recomputation import FINDINGS_MAX, Checkpoint, Finding, Report, SessionName, Verification
from chronicled.storage.record import Label, StoredEvent
from chronicled.storage.schema import check_schema
from chronicled.storage.segments import COUNTED, SEGMENT_EVENTS, segments_counted, segments_whole

__all__ = ["Report", "verify_file"]

PAGE_ROWS: Final = 1000
SESSION: Final = (
    "SELECT session.number, tenant.number, tenant.name, session.name"
    " FROM session JOIN tenant ON tenant.number = session.tenant WHERE session.number = ?"
)
# In the table itself and not by an index: an index can lie.
ROWS: Final = (
    f"SELECT {', '.join(StoredEvent._fields)}, erased_digest FROM event NOT INDEXED"
    f" WHERE position > ? AND position <= ? ORDER BY position LIMIT {PAGE_ROWS}"
)
TWICE: Final = (
    "SELECT tenant, {0} FROM event NOT INDEXED WHERE position <= ? AND {1} GROUP BY tenant, {0} HAVING count(*) > 1"
    " LIMIT ?"
)
SECOND: Final = (
    "SELECT position FROM event NOT INDEXED WHERE tenant = ? AND {0} = ? AND {1} ORDER BY position LIMIT 1 OFFSET 1"
)
BLOBS: Final = (
    "SELECT blob_reference.position FROM blob_reference LEFT JOIN event ON event.position = blob_reference.position"
    " WHERE event.session IS NOT blob_reference.session ORDER BY 1 LIMIT ?"
)
HAS_COUNTS: Final = "SELECT 1 FROM sqlite_schema WHERE name = 'segment_label'"
KEPT: Final = "SELECT segment, tenant, label, events, places FROM segment_label WHERE segment = ? ORDER BY 2, 3"


def verify_file(
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    head: int | None = None,
    root: bytes | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Verify the log in the file at `path`; report what is wrong, the first bad position first.

    Uses a connection of its own that changes nothing, and reads in short transactions, so that a daemon beside it can
    go on writing and checkpointing. Blocks, for about 10 us an event.

    Args:
        path: The database file.
        progress: Called now and then with how many events are done and how many there are.
        head: How many events there must be, where that is known from elsewhere; later ones are not looked at.
        root: The tree's root over those `head` events, where known.
        stop: Asked now and then; True ends the verification early, with what was found so far.

    Raises:
        LogCorrupt: the file cannot be read as a database of ours at all.
        SchemaTooNew: a newer version wrote it.
        Refused: a migration is at work there, or was interrupted.
    """
    check_schema(path)
    try:
        connection = open_reader(path)
    except sqlite3.Error as error:
        raise LogCorrupt(f"The log's database cannot be opened: {error}.") from None
    try:
        return _verify(connection, progress, head, root, stop)
    except sqlite3.DatabaseError as error:
        raise LogCorrupt(f"The log's database cannot be read: {error}.") from None
    finally:
        connection.close()


def _verify(
    connection: sqlite3.Connection,
    progress: Callable[[int, int], None] | None,
    head: int | None,
    root: bytes | None,
    stop: Callable[[], bool],
) -> Report:
    def session(number: int) -> SessionName | None:
        row = connection.execute(SESSION, (number,)).fetchone()
        return None if row is None else SessionName(*row)

    @lru_cache(maxsize=4096)
    def label(number: int) -> Label | None:
        row = connection.execute("SELECT * FROM label WHERE number = ?", (number,)).fetchone()
        return None if row is None else Label(*row[1:])

    # One snapshot for both: a checkpoint of events that came after the count would look like missing events.
    connection.execute("BEGIN")
    (end,) = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
    kept = [Checkpoint(*row) for row in connection.execute("SELECT * FROM tree_checkpoint ORDER BY size")]
    connection.execute("COMMIT")
    if head is not None:
        end = head
        kept = [checkpoint for checkpoint in kept if checkpoint.size <= head]
    verification = Verification(session, label, kept)
    try:
        for rows in _pages(connection, end):
            for *columns, erased_digest in rows:
                verification.take(StoredEvent(*columns), erased_digest)
            if progress is not None:
                progress(max(0, rows[-1][0]), end)
            if verification.exhausted or stop():
                return verification.report()
        verification.findings += _indexes(connection, end)
        verification.findings += _counts(connection, end, {finding.position for finding in verification.findings})
    except sqlite3.DatabaseError as error:
        verification.findings.append(Finding(verification.next, f"the database cannot be read from here on: {error}"))
        return verification.report()
    return verification.finish(head, root)


def _pages(connection: sqlite3.Connection, end: int) -> Iterator[list[tuple[Any, ...]]]:
    after = -(1 << 62)
    while rows := connection.execute(ROWS, (after, end)).fetchall():
        yield rows
        after = rows[-1][0]


def _indexes(connection: sqlite3.Connection, end: int) -> Iterator[Finding]:
    """Check what the unique indexes guarantee, without them, and the references to blobs."""
    for column, condition, text in (
        ("id", "true", "the event's id is used twice"),
        ("cause", "terminal = 1", "a second terminal observation of its action"),
    ):
        twice = connection.execute(TWICE.format(column, condition), (end, FINDINGS_MAX)).fetchall()
        for key in twice:
            second = connection.execute(SECOND.format(column, condition), key).fetchone()
            if second is None:
                raise sqlite3.DatabaseError("one look at it contradicts another")
            yield Finding(second[0], text)
    for (position,) in connection.execute(BLOBS, (FINDINGS_MAX,)):
        yield Finding(position, "a reference to a blob does not belong to this event's session")


def _counts(connection: sqlite3.Connection, end: int, bad: Collection[int]) -> Iterator[Finding]:
    """Check the counts of segments: readers go by them, and an event that they leave out would be found by no filter.

    Not of a segment in which an event is bad: there they follow from what is no more, and would hide where that is.
    """
    if connection.execute(HAS_COUNTS).fetchone() is None:
        return
    segments_bad = {(position - 1) // SEGMENT_EVENTS for position in bad}
    for segment in range(min(segments_counted(connection), segments_whole(end))):
        if segment in segments_bad:
            continue
        before = segment * SEGMENT_EVENTS
        kept = connection.execute(KEPT, (segment,)).fetchall()
        counted = connection.execute(f"{COUNTED} ORDER BY 2, 3", {"segment": segment, "before": before}).fetchall()
        if kept != counted:
            yield Finding(before + 1, f"the counts of segment {segment} do not follow from its events")
