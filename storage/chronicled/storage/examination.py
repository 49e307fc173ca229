"""Reading every payload of a log once, to find those that cannot be read here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import Category
from chronicled.events.opaque import Opaque, Why
from chronicled.storage.log_file import LogFile

__all__ = ["POSITIONS_MAX", "Unreadable", "examine"]

POSITIONS_MAX: Final = 3
REASONS_MAX: Final = 10_000
"""Rows of the result; what would be further ones is counted under an empty kind."""


class Unreadable(msgspec.Struct, kw_only=True):
    """Payloads of one kind and version that cannot be read here, for one reason."""

    category: Category
    kind: str
    version: int
    why: Why
    events: int = 0
    reason: str
    """Of the first one, in words."""
    positions: list[int] = []
    """Of the first ones."""


def examine(log: LogFile, codec: Codec, progress: Callable[[int, int], None] | None = None) -> list[Unreadable]:
    """Return what of the log cannot be read here, most frequent first, in bounded memory.

    Reads and migrates every payload: some ten microseconds an event.

    Args:
        log: The log.
        codec: Reads payloads.
        progress: Called now and then with how many events are done and how many there are.

    Raises:
        LogCorrupt, SchemaTooNew: the log itself cannot be read.
    """
    found: dict[tuple[str, str, int, str], Unreadable] = {}
    for page in log.pages():
        for event in page.events:
            read = codec.decode(event)
            if isinstance(read, Opaque):
                key: tuple[str, str, int, str] = (event.category, event.kind, event.version, read.why)
                if key not in found and len(found) >= REASONS_MAX:
                    key = ("", "", 0, read.why)
                row = found.get(key)
                if row is None:
                    row = found[key] = Unreadable(
                        category=event.category, kind=key[1], version=key[2], why=read.why, reason=read.reason
                    )
                row.events += 1
                if len(row.positions) < POSITIONS_MAX:
                    row.positions.append(event.position)
        if progress is not None:
            progress(page.next, log.head)
    return sorted(found.values(), key=lambda row: (-row.events, row.positions))
