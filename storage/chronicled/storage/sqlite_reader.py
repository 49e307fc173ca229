"""The readers' side of the log in SQLite: pages and single events, over a connection that cannot write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, StorageFull, StoreFailed
from chronicled.events.store import Filter, Page
from chronicled.storage.connection import failure
from chronicled.storage.event_row import (
    EVENT_COLUMNS,
    LABEL_COLUMN,
    PAYLOAD_COLUMN,
    SESSION_COLUMN,
    ReadLabel,
    event_of,
    label_of,
)
from chronicled.storage.record import CATEGORY_NUMBERS
from chronicled.storage.wanted import WantedRows, WantedSessionRows, sequence_behind

__all__ = ["SqliteReader", "read_failure"]

PAGE_BYTES_MAX: Final = 4 << 20
"""Payload bytes after which a page ends early."""
NAMES_MAX: Final = 65_536
"""Sessions whose names are kept in memory, and labels."""
FETCH_ROWS: Final = 16
"""Rows fetched at once: of the largest events, so many may be in memory beyond those of the page."""

SESSION_NUMBER: Final = (
    "SELECT session.number FROM tenant JOIN session ON session.tenant = tenant.number"
    " WHERE tenant.name = ? AND session.name = ?"
)
SESSION_NUMBERS: Final = SESSION_NUMBER.replace("session.number", "session.number, session.tenant", 1)
NAME: Final = (
    "SELECT tenant.name, session.name FROM session JOIN tenant ON tenant.number = session.tenant"
    " WHERE session.number = ?"
)


def read_failure(error: sqlite3.Error) -> ChronicledError:
    """Return what an error means to a reader: never that the disk is full for writers."""
    meaning = failure(error)
    return StoreFailed(meaning.detail) if isinstance(meaning, StorageFull) else meaning


class SqliteReader:
    """Answers questions in the reading connection's thread; each method is one job there."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[str, str]] = {}
        self._labels: dict[int, ReadLabel] = {}

    def page(self, connection: sqlite3.Connection, head: int, after: int, limit: int, where: Filter) -> Page:
        """Return the wanted events behind `after`, up to `head`."""
        tests, values = self._tests(connection, where)
        if tests is None:
            return Page((), head, True)
        if where.tenant is not None and where.session is not None:
            return self._session_page(connection, head, after, limit, where, tests, values)
        if tests:
            wanted = WantedRows(connection, EVENT_COLUMNS, tests, values)
            rows = islice(wanted.behind(after, head), limit)
            return self._collect(connection, rows, head, lambda: wanted.reached, limit)
        sql = f"SELECT {EVENT_COLUMNS} FROM event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        return self._collect(connection, connection.execute(sql, (after, head, limit)), head, lambda: head, limit)

    def _session_page(
        self,
        connection: sqlite3.Connection,
        head: int,
        after: int,
        limit: int,
        where: Filter,
        tests: str,
        values: list[Any],
    ) -> Page:
        found = connection.execute(SESSION_NUMBERS, (where.tenant, where.session)).fetchone()
        if found is None:
            return Page((), head, True)
        session, tenant = found
        if tests:
            wanted = WantedSessionRows(connection, EVENT_COLUMNS, tests, values, session, tenant)
            rows = islice(wanted.behind(after, head), limit)
            return self._collect(connection, rows, head, lambda: wanted.reached, limit)
        first = sequence_behind(connection, session, after)
        sql = (
            f"SELECT {EVENT_COLUMNS} FROM event WHERE session = ? AND sequence >= ? AND position <= ?"
            " ORDER BY sequence LIMIT ?"
        )
        cursor = connection.execute(sql, (session, first, head, limit))
        return self._collect(connection, cursor, head, lambda: head, limit)

    def by_id(self, connection: sqlite3.Connection, tenant: str, id: bytes) -> Event | None:
        """Return the event of that id."""
        return self._one(connection, "tenant = (SELECT number FROM tenant WHERE name = ?) AND id = ?", (tenant, id))

    def request(self, connection: sqlite3.Connection, tenant: str, id: bytes) -> bytes | None:
        """Return the digest of the request that wrote the event of that id."""
        sql = "SELECT request FROM event WHERE tenant = (SELECT number FROM tenant WHERE name = ?) AND id = ?"
        found = connection.execute(sql, (tenant, id)).fetchone()
        return None if found is None or found[0] is None else bytes(found[0])

    def terminal(self, connection: sqlite3.Connection, tenant: str, action: bytes) -> Event | None:
        """Return the terminal observation of the action of that id."""
        where = "tenant = (SELECT number FROM tenant WHERE name = ?) AND cause = ? AND terminal = 1"
        return self._one(connection, where, (tenant, action))

    def last(self, connection: sqlite3.Connection, head: int, tenant: str, session: str) -> Event | None:
        """Return the session's newest event."""
        where = f"session = ({SESSION_NUMBER}) AND position <= ? ORDER BY sequence DESC LIMIT 1"
        return self._one(connection, where, (tenant, session, head))

    def names_blob(self, connection: sqlite3.Connection, tenant: str, session: str, digest: bytes) -> bool:
        """Tell whether an event of the session names the blob."""
        sql = f"SELECT 1 FROM blob_reference WHERE session = ({SESSION_NUMBER}) AND digest = ?"
        return connection.execute(sql, (tenant, session, digest)).fetchone() is not None

    def _one(self, connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> Event | None:
        row = connection.execute(f"SELECT {EVENT_COLUMNS} FROM event WHERE {where}", values).fetchone()
        return None if row is None else self._event(connection, row)

    def _tests(self, connection: sqlite3.Connection, where: Filter) -> tuple[str | None, list[Any]]:
        """Return the conditions beyond the session as SQL, see `WantedRows`; None when nothing can be wanted."""
        tests, values = "", list[Any]()
        if where.tenant is not None and where.session is None:
            found = connection.execute("SELECT number FROM tenant WHERE name = ?", (where.tenant,)).fetchone()
            if found is None:
                return None, values
            tests += " AND {0}.tenant = ?"
            values += found
        categories = [CATEGORY_NUMBERS[name] for name in sorted(where.categories)]
        conditions: list[str] = []
        for column, wanted in (
            ("kind", sorted(where.kinds)),
            ("category", categories),
            ("source", sorted(where.sources)),
        ):
            if wanted:
                conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        if conditions:
            joined = " AND ".join(conditions)
            tests += f" AND EXISTS (SELECT 1 FROM label WHERE number = {{0}}.label AND {joined})"
        return tests, values

    def _collect(
        self,
        connection: sqlite3.Connection,
        rows: Iterator[tuple[Any, ...]],
        head: int,
        reached: Callable[[], int],
        limit: int,
    ) -> Page:
        events: list[Event] = []
        size = 0
        names, labels = self._names, self._labels
        while chunk := list(islice(rows, FETCH_ROWS)):
            for row in chunk:
                label = labels.get(row[LABEL_COLUMN]) or self._label(connection, row[LABEL_COLUMN])
                tenant, session = names.get(row[SESSION_COLUMN]) or self._name(connection, row[SESSION_COLUMN])
                events.append(event_of(row, label, tenant, session))
                size += len(row[PAYLOAD_COLUMN] or b"")
                if size >= PAGE_BYTES_MAX:
                    return Page(tuple(events), events[-1].position, events[-1].position == head)
        last = events[-1].position if len(events) == limit else reached()
        return Page(tuple(events), last, last == head)

    def _event(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> Event:
        label = self._label(connection, row[LABEL_COLUMN])
        return event_of(row, label, *self._name(connection, row[SESSION_COLUMN]))

    def _label(self, connection: sqlite3.Connection, number: int) -> ReadLabel:
        label = self._labels.get(number)
        if label is None:
            if len(self._labels) >= NAMES_MAX:
                self._labels.clear()
            label = self._labels[number] = label_of(connection, number)
        return label

    def _name(self, connection: sqlite3.Connection, number: int) -> tuple[str, str]:
        name = self._names.get(number)
        if name is None:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            name = connection.execute(NAME, (number,)).fetchone()
            self._names[number] = name
        return name
