"""A log's file for readers that are no daemon: read only, beside one or without one, also one of a newer schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chronicled.events.envelope import Category
from chronicled.events.errors import LogCorrupt, SchemaTooNew
from chronicled.events.store import Filter, Page
from chronicled.storage.connection import open_reader
from chronicled.storage.record import CATEGORY_NUMBERS
from chronicled.storage.schema import schema_status
from chronicled.storage.sqlite_reader import SqliteReader

__all__ = ["LogFile", "open_log_file"]

PAGE_EVENTS: Final = 500
PLACES: Final = (
    "SELECT position FROM event WHERE label IN"
    " (SELECT number FROM label WHERE category = ? AND kind = ? AND version = ?) ORDER BY position LIMIT ?"
)


class LogFile:
    """Reads a log up to the head that it has when it is opened; made by `open_log_file`. Blocks.

    A log of a newer schema is read as far as its tables still are what this version knows: nothing is written, so
    nothing can be spoilt.
    """

    def __init__(self, connection: sqlite3.Connection, newer: SchemaTooNew | None, *, current: bool) -> None:
        self._connection = connection
        self._current = current
        self._reader = SqliteReader()
        self.newer = newer
        """What `serve` would say to a log of a newer schema; None where it is not."""
        (self.incarnation,) = connection.execute("SELECT name FROM incarnation ORDER BY number DESC LIMIT 1").fetchone()
        (self.head,) = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()

    def pages(self, after: int = 0, where: Filter | None = None) -> Generator[Page]:
        """Yield the wanted events behind position `after` page by page, in order, in bounded memory.

        Raises:
            LogCorrupt: the file cannot be read any further.
            SchemaTooNew: a newer version changed what would have to be read.
        """
        with _telling(self.newer):
            while after < self.head:
                page = self._page(after, where or Filter())
                yield page
                after = page.next

    def _page(self, after: int, where: Filter) -> Page:
        if self._current:
            return self._reader.page(self._connection, self.head, after, PAGE_EVENTS, where)
        # What finds wanted events fast is not there in every schema: look at all of them.
        page = self._reader.page(self._connection, self.head, after, PAGE_EVENTS, Filter())
        return Page(tuple(event for event in page.events if where.admits(event)), page.next, page.at_end)

    def places(self, category: Category, kind: str, version: int, limit: int) -> tuple[int, ...]:
        """Return the positions of the first events of that kind and version.

        Raises:
            LogCorrupt, SchemaTooNew: as `pages`.
        """
        with _telling(self.newer):
            rows = self._connection.execute(PLACES, (CATEGORY_NUMBERS[category], kind, version, limit))
            return tuple(position for (position,) in rows)


@contextmanager
def _telling(newer: SchemaTooNew | None) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if newer is not None:
            raise newer from error
        raise LogCorrupt(f"The log's database cannot be read: {error}.") from None


@contextmanager
def open_log_file(path: Path) -> Generator[LogFile]:
    """Open the log at `path` for reading; nothing of it is ever written.

    Raises:
        LogCorrupt: it is not ours, or damaged.
        SchemaTooNew: it is of a newer schema that has nothing of what this version knows.
    """
    newer: SchemaTooNew | None = None
    current = False
    try:
        status = schema_status(path)
        current = not status.pending and status.unfinished is None
    except SchemaTooNew as error:
        newer = error
    with _telling(newer):
        connection = open_reader(path)
        try:
            yield LogFile(connection, newer, current=current)
        finally:
            connection.close()
