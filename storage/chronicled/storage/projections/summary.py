"""The projection `sessions`: one row a session, for lists. Rows of sessions that are over live on disk alone."""

from __future__ import annotations

import sqlite3
from typing import Any, Final, Literal

import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import Event
from chronicled.events.kinds.lifecycle import IMPORTED, SessionCreated
from chronicled.storage.projections.projection import Changes, Key

__all__ = ["SandboxState", "SessionRow", "SessionSummary", "Summaries"]

UPSERT: Final = (
    "INSERT INTO session (created, tenant, session, live, row) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (created) DO UPDATE SET live = excluded.live, row = excluded.row"
)


class SessionRow(msgspec.Struct, kw_only=True, array_like=True):
    """What the log says of a session; changed in place as it grows."""

    tenant: str
    session: str
    created: int
    """Position of its `session_created`."""
    created_time: str
    runtime: str = ""
    image: str | None = None
    labels: dict[str, str] = {}
    isolated: bool = False
    closed: bool = False
    position: int = 0
    """Of its last event."""
    time: str = ""
    generation: str | None = None
    """The newest generation, over or not."""
    sandbox: str | None = None
    """The newest sandbox, removed or not."""
    sandboxes: list[str] = []
    """Those that were requested and not removed."""
    fence: int = 0
    active_time: str = ""
    """Of the last event that a client wanted, or that ended an action."""

    @property
    def live(self) -> bool:
        """Whether something may still happen to it."""
        return not self.closed or bool(self.sandboxes)


SandboxState = Literal["none", "starting", "ready", "pausing", "paused", "ending"]
"""What stands between a session's next action and its run: `none` will be `starting` when there is one."""


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A session as a list shows it, at one moment."""

    tenant: str
    session: str
    created: int
    created_time: str
    runtime: str
    image: str | None
    labels: dict[str, str]
    isolated: bool
    closed: bool
    position: int
    time: str
    generation: str | None
    sandbox: str | None
    fence: int
    open_actions: int
    active_time: str
    sandbox_state: SandboxState


class _Named(msgspec.Struct, frozen=True):
    # The ids by which sandbox events name what they are about; read leniently, whatever the version.
    sandbox: str = ""
    generation: str = ""


_named = msgspec.json.Decoder(_Named)
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SessionRow)


class Summaries:
    """Rows of sessions that are live or not saved yet, by key; every other row is on disk.

    Args:
        codec: Reads payloads.
    """

    name = "sessions"
    version = "2"
    schema: tuple[str, ...] = (
        "CREATE TABLE IF NOT EXISTS session (created INTEGER PRIMARY KEY, tenant TEXT NOT NULL, session TEXT NOT NULL,"
        " live INTEGER NOT NULL, row BLOB NOT NULL, UNIQUE (tenant, session)) STRICT",
        "CREATE INDEX IF NOT EXISTS session_by_tenant ON session (tenant, created)",
        "CREATE INDEX IF NOT EXISTS session_live ON session (live) WHERE live = 1",
    )
    tables: tuple[str, ...] = ("session",)

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._rows: dict[Key, SessionRow] = {}
        self._changed: dict[Key, SessionRow] = {}
        self._saving: dict[Key, SessionRow] = {}
        self._waiting: dict[Key, list[Event]] = {}
        """Events of sessions whose row is on disk alone."""

    def apply(self, event: Event) -> None:
        """Take the next event."""
        key = (event.tenant, event.session)
        row = self._rows.get(key)
        if row is None:
            if event.kind != "session_created":
                self._waiting.setdefault(key, []).append(event)
                return
            row = self._rows[key] = self._created(event)
        self._advance(row, event)
        self._changed[key] = row

    def _created(self, event: Event) -> SessionRow:
        payload = self._codec.decode(event)
        row = SessionRow(
            tenant=event.tenant, session=event.session, created=event.position, created_time=event.time, sandboxes=[]
        )
        if isinstance(payload, SessionCreated):
            row.runtime, row.image, row.isolated = payload.runtime, payload.image, payload.isolated
            row.labels = dict(payload.labels)
            row.closed = payload.runtime == IMPORTED
        return row

    def _advance(self, row: SessionRow, event: Event) -> None:
        row.position = event.position
        row.time = event.time
        if event.source == "client" or (event.category == "observation" and event.cause is not None):
            row.active_time = event.time
        if event.category != "lifecycle":
            return
        kind = event.kind
        if kind == "session_closed":
            row.closed = True
        elif kind == "session_claimed":
            row.fence = event.position
        elif kind == "generation_started":
            row.generation = _ids(event).generation
        elif kind == "sandbox_requested":
            row.sandbox = _ids(event).sandbox
            if row.sandbox not in row.sandboxes:
                row.sandboxes.append(row.sandbox)
        elif kind == "sandbox_removed":
            row.sandboxes = [each for each in row.sandboxes if each != _ids(event).sandbox]

    # -- what readers ask ------------------------------------------------------------------------------------------

    def find(self, key: Key) -> SessionRow | None:
        """Return the row if it is in memory."""
        return self._rows.get(key)

    def live(self) -> list[Key]:
        """Return every live session in the order of creation."""
        rows = sorted((row for row in self._rows.values() if row.live), key=lambda row: row.created)
        return [(row.tenant, row.session) for row in rows]

    def unsaved(self, tenant: str, after: int) -> dict[int, SessionRow]:
        """Return rows behind `after` that are newer than those on disk, by the position of their creation."""
        rows = (*self._saving.values(), *self._changed.values())
        return {row.created: row for row in rows if row.tenant == tenant and row.created > after}

    @staticmethod
    def page(connection: sqlite3.Connection, tenant: str, after: int, limit: int) -> list[SessionRow]:
        """Return rows on disk, in the order of creation."""
        sql = "SELECT row FROM session WHERE tenant = ? AND created > ? ORDER BY created LIMIT ?"
        return [_decoder.decode(row) for (row,) in connection.execute(sql, (tenant, after, limit))]

    # -- the engine's side -----------------------------------------------------------------------------------------

    def read(self, connection: sqlite3.Connection) -> list[bytes]:
        """Return the rows of live sessions."""
        return [row for (row,) in connection.execute("SELECT row FROM session WHERE live = 1")]

    def restore(self, rows: list[bytes]) -> None:
        """Fill the memory."""
        for data in rows:
            row = _decoder.decode(data)
            self._rows[row.tenant, row.session] = row

    def missing(self) -> list[Key]:
        """Return sessions that events came for while their row is on disk alone."""
        return list(self._waiting)

    def read_missing(self, connection: sqlite3.Connection, keys: list[Key]) -> list[SessionRow | None]:
        """Return the rows of those sessions."""
        sql = "SELECT row FROM session WHERE tenant = ? AND session = ?"
        found = [connection.execute(sql, key).fetchone() for key in keys]
        return [None if row is None else _decoder.decode(row[0]) for row in found]

    def restore_missing(self, keys: list[Key], rows: list[SessionRow | None]) -> None:
        """Take the rows into memory, then the events that waited for them."""
        for key, row in zip(keys, rows, strict=True):
            events = self._waiting.pop(key, [])
            if row is None or key in self._rows:
                continue  # events of a session that was never created (the daemon's own) have no row
            self._rows[key] = self._changed[key] = row
            for event in events:
                self._advance(row, event)

    def changes(self) -> Changes:
        """Return the rows that have changed."""
        self._saving, self._changed = self._changed, {}
        found = Changes()
        rows: list[tuple[Any, ...]] = [
            (row.created, row.tenant, row.session, int(row.live), _encoder.encode(row)) for row in self._saving.values()
        ]
        found.add(UPSERT, rows)
        return found

    def saved(self) -> None:
        """Forget the rows of sessions that are over."""
        for key, row in self._saving.items():
            if not row.live and key not in self._changed:
                self._rows.pop(key, None)
        self._saving = {}


def _ids(event: Event) -> _Named:
    try:
        return _named.decode(event.payload)
    except (ValueError, RecursionError):
        return _Named()
