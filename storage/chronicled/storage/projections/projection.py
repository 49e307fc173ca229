"""What one projection is to the engine that feeds it and keeps its rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from chronicled.events.envelope import Event

__all__ = ["Changes", "Checkpoint", "Key", "Projection"]

Key = tuple[str, str]
"""Tenant and session."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a projection's rows go, and in which log."""

    name: str
    version: str
    """Of the rows' form and of the fold; rows of another version are thrown away and folded again."""
    position: int
    incarnation: str
    leaf: str
    """Leaf of the event at `position`: the log is the one that was folded, and not another that looks like it."""


class Changes(msgspec.Struct):
    """Statements, each with its rows, that bring a projection's tables to where its memory is."""

    statements: list[tuple[str, list[tuple[Any, ...]]]] = []

    def add(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add a statement unless it has no rows."""
        found = list(rows)
        if found:
            self.statements.append((sql, found))


class Projection(Protocol):
    """A fold over the log with rows of its own (D1).

    `apply` and everything else without a connection runs on the event loop and never blocks; what takes a connection
    runs in the database's thread and touches no state.
    """

    name: str
    version: str
    schema: tuple[str, ...]
    """Statements that make its tables where they are missing."""
    tables: tuple[str, ...]

    def apply(self, event: Event) -> None:
        """Take the next event. Total: it never raises."""
        ...

    def read(self, connection: sqlite3.Connection) -> Any:
        """Return the rows that its memory is made of at a start."""
        ...

    def restore(self, rows: Any) -> None:
        """Fill the memory, empty until now, from what `read` returned.

        Raises:
            msgspec.DecodeError: the rows are damaged.
        """
        ...

    def missing(self) -> list[Key]:
        """Return sessions whose row has to be read before the changes are complete."""
        ...

    def read_missing(self, connection: sqlite3.Connection, keys: list[Key]) -> Any:
        """Return the rows of those sessions."""
        ...

    def restore_missing(self, keys: list[Key], rows: Any) -> None:
        """Take those rows into memory, and what happened to them since."""
        ...

    def changes(self) -> Changes:
        """Return what has changed since the last call. The next call comes when `saved` was called."""
        ...

    def saved(self) -> None:
        """The last changes are in the database: forget what need not be in memory."""
        ...
