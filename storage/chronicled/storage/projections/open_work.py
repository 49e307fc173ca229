"""The projection `open_actions`: the fold of every session that still has something to do.

Its rows are the very events that a fold is made of (what created the session, its sandbox and generation, what was
lost, its open actions and what was asked of them), so that a start need not look them up in the log.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from chronicled.events.envelope import LIFECYCLE, Event
from chronicled.events.lanes import SessionFold
from chronicled.events.registry import Registry
from chronicled.events.worker_log import SessionKey
from chronicled.storage.projections.projection import Changes, Key

__all__ = ["OpenWork"]

INSERT: Final = "INSERT OR REPLACE INTO held_event (position, tenant, session, event) VALUES (?, ?, ?, ?)"
DELETE: Final = "DELETE FROM held_event WHERE position = ?"
UPSERT_FOLD: Final = "INSERT OR REPLACE INTO fold (tenant, session, position, fence) VALUES (?, ?, ?, ?)"
DELETE_FOLD: Final = "DELETE FROM fold WHERE tenant = ? AND session = ?"

REVIVING: Final = frozenset({"sandbox_requested", "generation_started"})
"""What gives a session that is over something to do again: a worker may have decided on it before the end."""

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Event)


class OpenWork:
    """The folds of sessions that are open, or have a sandbox or open actions.

    Args:
        registry: Tells which actions are runnable and what ends them. Another set of kinds is another version of this
            projection: it is folded again, so that what was not understood is, where it is by now.
    """

    name = "open_actions"
    schema: tuple[str, ...] = (
        "CREATE TABLE IF NOT EXISTS fold (tenant TEXT NOT NULL, session TEXT NOT NULL, position INTEGER NOT NULL,"
        " fence INTEGER NOT NULL, PRIMARY KEY (tenant, session)) STRICT, WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS held_event (position INTEGER PRIMARY KEY, tenant TEXT NOT NULL,"
        " session TEXT NOT NULL, event BLOB NOT NULL) STRICT",
    )
    tables: tuple[str, ...] = ("fold", "held_event")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.version = "2:" + _fingerprint(registry)
        self._folds: dict[Key, SessionFold] = {}
        self._changed: dict[Key, None] = {}
        self._saving: dict[Key, None] = {}
        self._held: dict[Key, dict[int, Event]] = {}
        """What the database holds of each session, by position."""
        self._revived: dict[Key, list[Event]] = {}
        """Sessions that were over and are not any more, until their fold is made again, and what came meanwhile."""

    def apply(self, event: Event) -> None:
        """Take the next event."""
        key = (event.tenant, event.session)
        fold = self._folds.get(key)
        if fold is None:
            if event.kind != "session_created":
                self._apply_to_what_is_over(key, event)
                return
            fold = self._folds[key] = SessionFold(SessionKey(*key), self._registry)
        fold.apply(event)
        self._changed[key] = None

    def _apply_to_what_is_over(self, key: Key, event: Event) -> None:
        waiting = self._revived.get(key)
        if waiting is not None:
            waiting.append(event)
        elif event.kind in REVIVING:
            self._revived[key] = [event]

    def revived(self) -> list[Key]:
        """Return sessions that were over and are not any more: their fold has to be made from the log again."""
        return list(self._revived)

    def adopt(self, key: Key, fold: SessionFold) -> None:
        """Take the fold of a revived session, made from the log at least up to the event that revived it."""
        fold.extend(self._revived.pop(key))
        self._folds[key] = fold
        self._changed[key] = None

    # -- what readers ask ------------------------------------------------------------------------------------------

    def find(self, key: Key) -> SessionFold | None:
        """Return the session's fold; None when there is no such session, or nothing is left to do in it."""
        return self._folds.get(key)

    def unfinished(self) -> list[SessionKey]:
        """Return sessions that are not over, in the order of creation."""
        folds = (fold for fold in self._folds.values() if not _over(fold))
        return [fold.key for fold in sorted(folds, key=lambda fold: fold.created.position if fold.created else 0)]

    # -- the engine's side -----------------------------------------------------------------------------------------

    def read(self, connection: sqlite3.Connection) -> tuple[list[tuple[str, str, int, int]], list[bytes]]:
        """Return all rows."""
        folds = connection.execute("SELECT tenant, session, position, fence FROM fold").fetchall()
        events = connection.execute("SELECT event FROM held_event ORDER BY position").fetchall()
        return folds, [event for (event,) in events]

    def restore(self, rows: tuple[list[tuple[str, str, int, int]], list[bytes]]) -> None:
        """Fill the memory."""
        folds, events = rows
        for tenant, session, _, _ in folds:
            self._folds[tenant, session] = SessionFold(SessionKey(tenant, session), self._registry)
        for data in events:
            event = _decoder.decode(data)
            key = (event.tenant, event.session)
            fold = self._folds.get(key)
            if fold is None:
                raise msgspec.DecodeError("an event is held for a session that is not")
            fold.apply(event)
            self._held.setdefault(key, {})[event.position] = event
        for tenant, session, position, fence in folds:
            fold = self._folds[tenant, session]
            fold.position, fold.fence = position, fence

    def missing(self) -> list[Key]:
        """Return nothing: what is not in memory is over."""
        return []

    def read_missing(self, connection: sqlite3.Connection, keys: list[Key]) -> None:
        """Read nothing."""

    def restore_missing(self, keys: list[Key], rows: None) -> None:
        """Take nothing."""

    def changes(self) -> Changes:
        """Return the folds that have changed, as the events by which they differ."""
        self._saving, self._changed = self._changed, {}
        gone: list[tuple[Any, ...]] = []
        added: list[tuple[Any, ...]] = []
        folds: list[tuple[Any, ...]] = []
        over: list[tuple[Any, ...]] = []
        for key in self._saving:
            fold = self._folds[key]
            if _over(fold):
                now: dict[int, Event] = {}
                over.append(key)
            else:
                now = {event.position: event for event in _events(fold)}
                folds.append((*key, fold.position, fold.fence))
            before = self._held.get(key, {})
            gone += [(position,) for position in before.keys() - now.keys()]
            added += [(position, *key, _encode(now[position])) for position in now.keys() - before.keys()]
            self._held[key] = now
        found = Changes()
        found.add(DELETE, gone)
        found.add(INSERT, added)
        found.add(DELETE_FOLD, over)
        found.add(UPSERT_FOLD, folds)
        return found

    def saved(self) -> None:
        """Forget the folds of sessions that are over."""
        for key in self._saving:
            if key not in self._changed and _over(self._folds[key]):
                del self._folds[key]
                del self._held[key]
        self._saving = {}


def _over(fold: SessionFold) -> bool:
    return fold.closed is not None and fold.sandbox is None and fold.generation is None and not len(fold)


def _events(fold: SessionFold) -> Iterable[Event]:
    for event in (
        fold.created,
        fold.closed,
        fold.sandbox,
        fold.generation,
        fold.newer,
        *fold.losses(),
        *fold.standing(),
    ):
        if event is not None:
            yield event
    for action in fold:
        yield action
        yield from fold.requests(action.id)
        awaiting = fold.awaiting(action.id)
        if awaiting is not None:
            yield awaiting


def _fingerprint(registry: Registry) -> str:
    # Versions count only where a newer one holds a session: what else a kind's next version brings, no fold looks at.
    kinds = {
        f"{spec.category} {spec.kind} {spec.version * (spec.category == LIFECYCLE)} {spec.runnable} {spec.terminal}"
        + "".join(f" {kind} {version}" for kind, version in spec.becomes)
        for spec in registry
    }
    return hashlib.sha256("\n".join(sorted(kinds)).encode()).hexdigest()[:16]
