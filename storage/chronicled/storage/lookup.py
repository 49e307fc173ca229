"""What a batch must know before it is judged: sessions' states, ids known already, actions that have ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final

from chronicled.events.errors import StoreFailed
from chronicled.storage.connection import failure
from chronicled.storage.event_row import EVENT_COLUMNS, LABEL_COLUMN, event_of, label_of
from chronicled.storage.medium import Found, Wanted
from chronicled.storage.record import SessionState

__all__ = ["look_up"]

KEYS_MAX: Final = 400
"""Keys in one statement."""
SESSIONS: Final = """
SELECT wanted.tenant, wanted.key, session.number, session.tenant, event.sequence, event.client_sequence, event.fence,
  event.closed, event.leaf
FROM wanted CROSS JOIN tenant ON tenant.name = wanted.tenant
CROSS JOIN session ON session.tenant = tenant.number AND session.name = wanted.key
CROSS JOIN event ON event.session = session.number
  AND event.sequence = (SELECT max(sequence) FROM event AS newest WHERE newest.session = session.number)
"""
EVENTS: Final = f"""
SELECT wanted.tenant, wanted.key, session.name, event.request, {EVENT_COLUMNS}
FROM wanted CROSS JOIN tenant ON tenant.name = wanted.tenant
CROSS JOIN event ON event.tenant = tenant.number AND event.id = wanted.key
CROSS JOIN session ON session.number = event.session
"""
ENDED: Final = """
SELECT wanted.tenant, wanted.key
FROM wanted CROSS JOIN tenant ON tenant.name = wanted.tenant
CROSS JOIN event ON event.tenant = tenant.number AND event.cause = wanted.key AND event.terminal = 1
"""


def look_up(connection: sqlite3.Connection, wanted: Wanted) -> Found:
    """Return what the database knows of the wanted.

    Raises:
        StoreFailed: it could not be read.
    """
    found = Found()
    try:
        for tenant, name, *rest in _select(connection, SESSIONS, wanted.sessions):
            number, tenant_number, sequence, client_sequence, fence, closed, leaf = rest
            found.sessions[tenant, name] = SessionState(
                number, tenant_number, sequence, client_sequence, fence, bool(closed), leaf
            )
        for tenant, id, session, request, *columns in _select(connection, EVENTS, wanted.ids):
            label = label_of(connection, columns[LABEL_COLUMN])
            found.events[tenant, id] = (event_of(columns, label, tenant, session), request)
        found.ended.update((tenant, action) for tenant, action in _select(connection, ENDED, wanted.actions))
    except sqlite3.Error as error:
        raise StoreFailed(failure(error).detail) from None
    return found


def _select(connection: sqlite3.Connection, sql: str, keys: Iterable[tuple[str, Any]]) -> Iterator[tuple[Any, ...]]:
    rest = iter(dict.fromkeys(keys))
    while chunk := list(islice(rest, KEYS_MAX)):
        values = ", ".join(["(?, ?)"] * len(chunk))
        yield from connection.execute(f"WITH wanted (tenant, key) AS (VALUES {values}) {sql}", [*chain(*chunk)])
