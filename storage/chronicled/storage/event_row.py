"""From rows to events: the columns that readers need, and how an event is made of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Raw

from chronicled.events.envelope import CATEGORIES, Category, Event
from chronicled.events.ids import id_text
from chronicled.storage.record import ERASED, Label, time_text

__all__ = ["EVENT_COLUMNS", "LABEL_COLUMN", "PAYLOAD_COLUMN", "SESSION_COLUMN", "ReadLabel", "event_of", "label_of"]

EVENT_COLUMNS: Final = ", ".join(
    "event." + name
    for name in (
        "position",
        "session",
        "sequence",
        "id",
        "label",
        "cause",
        "time",
        "traceparent",
        "leaf",
        "payload",
    )
)
SESSION_COLUMN: Final = 1
LABEL_COLUMN: Final = 4
PAYLOAD_COLUMN: Final = 9

ReadLabel = tuple[str, int, Category, str, str, str]
"""Kind, version, category, lane, source and actor, in the order in which an event has them."""

_cause_text = lru_cache(maxsize=1024)(id_text)


def label_of(connection: sqlite3.Connection, number: int) -> ReadLabel:
    """Return the label of that number."""
    found = connection.execute("SELECT * FROM label WHERE number = ?", (number,)).fetchone()
    label = Label(*found[1:])
    return label.kind, label.version, CATEGORIES[label.category - 1], label.lane, label.source, label.actor


def event_of(row: Sequence[Any], label: ReadLabel, tenant: str, session: str) -> Event:
    """Return the event of a row that has `EVENT_COLUMNS`."""
    position, _, sequence, id, _, cause, time, traceparent, leaf, payload = row
    kind, version, category, lane, source, actor = label
    text = id.hex()
    return Event(
        position,
        tenant,
        session,
        sequence,
        # `id_text` without its call: this runs once for each event that anybody reads.
        f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}",
        kind,
        version,
        category,
        lane,
        source,
        actor,
        time_text(time),
        Raw(ERASED if payload is None else payload),
        leaf.hex(),
        None if cause is None else _cause_text(cause),
        traceparent,
    )
