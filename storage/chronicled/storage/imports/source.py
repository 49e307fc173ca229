"""Where original records come from: one session of another system, as it stands in files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

__all__ = ["MISSING", "Record", "Source"]


class _Missing(msgspec.Struct, frozen=True):
    """Stands for a value that nobody has decoded yet."""


MISSING = _Missing()


class Record(msgspec.Struct, frozen=True, gc=False):
    """One original record, with what it is known by."""

    key: str
    """What the source calls it; unique in the source and the same for ever."""
    data: bytes
    """Its bytes as they stood there."""
    place: str = ""
    """Where it stood, e.g. the file's name relative to the session's folder."""
    value: Any = MISSING
    """The record as plain JSON values, where reading it has decoded it anyway."""
    problem: str | None = None
    """Why it cannot be decoded, where reading it has shown that."""


class Source(Protocol):
    """The records of one session, in the order in which they happened.

    Reading blocks: the importer does it in a thread. Memory is bounded by the largest record and a small index,
    whatever the source's size. Nothing in a source is executed, unpickled, or followed out of its folder.
    """

    name: str
    """Proposed for the session, not yet checked."""
    place: str
    """Where the source stands, for people."""
    labels: dict[str, str]
    """What is known of the session beside its records; they become the session's labels."""

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from number `start` on.

        What is torn, empty or damaged is a record too, with its `problem`.

        Raises:
            ImportRefused: the source cannot be read at all.
        """
        ...
