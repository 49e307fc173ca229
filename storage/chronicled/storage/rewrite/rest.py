"""Whether a log is at rest: what is open or runs belongs to the directory that it was begun in."""

from __future__ import annotations

import sqlite3
from typing import Final

from chronicled.events.envelope import ACTION, CATEGORIES, LIFECYCLE, Event
from chronicled.events.errors import Refused
from chronicled.events.ids import id_text
from chronicled.events.lanes import SessionFold
from chronicled.events.registry import Registry
from chronicled.events.worker_log import SessionKey
from chronicled.storage.event_row import EVENT_COLUMNS, event_of, label_of

__all__ = ["check_at_rest"]

NAMES_MAX: Final = 5
SANDBOX_KINDS: Final = ("sandbox_requested", "sandbox_removed", "generation_started", "generation_ended")
OPEN: Final = (
    "SELECT session.name, event.id FROM event JOIN session ON session.number = event.session"
    " WHERE event.label IN (SELECT number FROM label WHERE category = 1 AND kind = ? AND version = ?)"
    " AND NOT EXISTS (SELECT 1 FROM event AS done WHERE done.tenant = event.tenant AND done.cause = event.id"
    " AND done.terminal = 1) LIMIT ?"
)
SANDBOXES: Final = (
    f"SELECT tenant.name, session.name, {EVENT_COLUMNS} FROM event"
    " JOIN session ON session.number = event.session JOIN tenant ON tenant.number = session.tenant"
    f" WHERE event.label IN (SELECT number FROM label WHERE category = {CATEGORIES.index(LIFECYCLE) + 1} AND kind IN"
    f" ({', '.join('?' * len(SANDBOX_KINDS))})) ORDER BY event.position"
)


def check_at_rest(connection: sqlite3.Connection, registry: Registry) -> None:
    """Return if no action is open in the log, and no session has a sandbox.

    Raises:
        Refused: something is; it names sessions and says what to do.
    """
    found: dict[str, str] = {}
    for kind, version in connection.execute("SELECT DISTINCT kind, version FROM label WHERE category = 1").fetchall():
        spec = registry.find_current(ACTION, kind, version)
        if spec is not None and spec.runnable:
            for session, id in connection.execute(OPEN, (kind, version, NAMES_MAX)):
                found[session] = f"action {id_text(id)} is open"
    for key in _with_sandbox(connection, registry):
        found.setdefault(key.session, "has a sandbox")
    if found:
        some = "; ".join(f"session {session!r}: {what}" for session, what in list(found.items())[:NAMES_MAX])
        more = f"; and {len(found) - NAMES_MAX} more" if len(found) > NAMES_MAX else ""
        raise Refused(
            f"The log is not at rest: {some}{more}. A sandbox, and what is on its way from it, cannot move to another "
            "directory. Start the daemon once more, wait for what is open, end each sandbox with `chronicled session "
            "restart SESSION` (or close the session), stop the daemon, and try again."
        )


def _with_sandbox(connection: sqlite3.Connection, registry: Registry) -> list[SessionKey]:
    folds: dict[SessionKey, SessionFold] = {}
    for tenant, session, *row in connection.execute(SANDBOXES, SANDBOX_KINDS):
        key = SessionKey(tenant, session)
        fold = folds.get(key)
        if fold is None:
            fold = folds[key] = SessionFold(key, registry)
        fold.apply(_event(connection, row, tenant, session))
        if fold.sandbox is None and fold.generation is None:
            del folds[key]  # so that only those which have one stay in memory
    return list(folds)


def _event(connection: sqlite3.Connection, row: list[object], tenant: str, session: str) -> Event:
    number = row[4]
    assert isinstance(number, int), "the label's number"
    return event_of(row, label_of(connection, number), tenant, session)
