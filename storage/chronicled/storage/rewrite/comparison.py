"""Each event of the new log beside the one that it comes from: read from both files again, named and not numbered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from typing import Any, Final

from chronicled.events.envelope import CATEGORIES
from chronicled.storage.record import Label
from chronicled.storage.rewrite.conversion import Conversion, Converted

__all__ = ["compare"]

PROBLEMS_MAX: Final = 20
PAGE_ROWS: Final = 1000
NAMED: Final = (
    "SELECT event.position, tenant.name, session.name, event.id, event.cause, event.terminal, event.time,"
    " event.request, event.traceparent, event.erased_digest, label.category, label.kind, label.version, label.lane,"
    " label.source, label.actor, event.payload"
    " FROM event JOIN session ON session.number = event.session JOIN tenant ON tenant.number = session.tenant"
    " JOIN label ON label.number = event.label"
    f" WHERE event.position > ? ORDER BY event.position LIMIT {PAGE_ROWS}"
)
BLOBS: Final = (
    "SELECT tenant.name, session.name, digest FROM blob_reference JOIN session ON session.number = session"
    " JOIN tenant ON tenant.number = session.tenant ORDER BY 1, 2, 3"
)


def compare(
    former: sqlite3.Connection,
    new: sqlite3.Connection,
    own: int,
    conversion: Conversion,
    progress: Callable[[int], None],
) -> list[str]:
    """Return what is wrong in the new log, at most 20 sentences; empty means that it says what the former one does.

    Args:
        former: The log that was written anew.
        new: The log that came of it.
        own: How many events stand before the first that was carried over.
        conversion: What should have become of each event.
        progress: Told how many of the former events were compared.
    """
    problems: list[str] = []
    others = islice(_events(new), own, None)
    for position, *named, payload in _events(former):
        where, labelled = tuple(named[:9]), Label(*named[9:])
        for event in conversion.converted(where[2], labelled, payload):
            other = next(others, None)
            if other is None:
                return [*problems, f"position {position}: what became of it is missing"]
            if other[1:] != _expected(where, labelled, event):
                problems.append(f"position {position}: {other[0]} in the new log is not what becomes of it")
        if position % PAGE_ROWS == 0:
            progress(position)
        if len(problems) >= PROBLEMS_MAX:
            return problems
    if next(others, None) is not None:
        problems.append("there is more in the new log than was in the former one")
    if any(one != other for one, other in zip_longest(former.execute(BLOBS), new.execute(BLOBS))):
        problems.append("the new log does not name the blobs that the former one did")
    return problems


def _expected(where: tuple[Any, ...], labelled: Label, event: Converted) -> tuple[Any, ...]:
    tenant, session, _, cause, terminal, time, request, traceparent, erased_digest = where
    if event.further:
        terminal, request, erased_digest = 0, None, None
    category = CATEGORIES.index(event.category) + 1
    return (
        tenant, session, event.id, cause, terminal, time, request, traceparent, erased_digest,
        category, event.kind, event.version, labelled.lane, labelled.source, labelled.actor, event.payload,
    )  # fmt: skip


def _events(connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    after = 0
    while rows := connection.execute(NAMED, (after,)).fetchall():
        yield from rows
        after = rows[-1][0]
