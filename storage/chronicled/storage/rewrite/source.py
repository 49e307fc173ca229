"""The log that is written anew, read in order, page by page, from a connection that can change nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from chronicled.events.errors import LogCorrupt
from chronicled.storage.record import Label

__all__ = ["Row", "Source"]

PAGE_ROWS: Final = 512
ROWS: Final = (
    "SELECT position, session, tenant, id, label, cause, terminal, time, request, traceparent, salt, erased_digest,"
    f" payload FROM event NOT INDEXED WHERE position > ? ORDER BY position LIMIT {PAGE_ROWS}"
)


class Row(NamedTuple):
    """What of a stored event goes over, as its columns have it."""

    position: int
    session: int
    tenant: int
    id: bytes
    label: int
    cause: bytes | None
    terminal: int
    time: int
    request: bytes | None
    traceparent: str | None
    salt: bytes | None
    erased_digest: bytes | None
    payload: bytes | None


class Source:
    """The rows of a log, and what their numbers stand for. Memory: a page, and some labels.

    Args:
        connection: To the log; nobody writes there meanwhile.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.label = lru_cache(maxsize=4096)(self._label)

    @property
    def head(self) -> int:
        """Position of the last event."""
        (head,) = self.connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
        return int(head)

    @property
    def first_time(self) -> int | None:
        """Time of the first event, None for a log without any."""
        found = self.connection.execute("SELECT time FROM event ORDER BY position LIMIT 1").fetchone()
        return None if found is None else int(found[0])

    def rows(self) -> Iterator[Row]:
        """Yield every event in order."""
        after = 0
        while rows := self.connection.execute(ROWS, (after,)).fetchall():
            yield from map(Row._make, rows)
            after = rows[-1][0]

    def session(self, number: int) -> tuple[str, str]:
        """Return the tenant and name of the session of that number.

        Raises:
            LogCorrupt: it has none.
        """
        sql = (
            "SELECT tenant.name, session.name FROM session JOIN tenant ON tenant.number = session.tenant"
            " WHERE session.number = ?"
        )
        found = self.connection.execute(sql, (number,)).fetchone()
        if found is None:
            raise LogCorrupt(f"Session number {number} has no name.")
        return found[0], found[1]

    def _label(self, number: int) -> Label:
        found = self.connection.execute("SELECT * FROM label WHERE number = ?", (number,)).fetchone()
        if found is None:
            raise LogCorrupt(f"Label number {number} has no fields.")
        return Label(*found[1:])
