"""One batch in the making: each request is judged against the log as it will be, and written or refused alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from chronicled.events.clock import format_time
from chronicled.events.envelope import ACTION, Draft, Event
from chronicled.events.errors import (
    ActionEnded,
    IdReused,
    SequenceMismatch,
    SessionClosed,
    SessionExists,
    SessionNotFound,
    StaleFence,
)
from chronicled.events.store import Appended
from chronicled.storage.entry import ActionKey, Entry, Item, SessionKey
from chronicled.storage.leaf import event_leaf, header
from chronicled.storage.medium import Batch, Found, LogState
from chronicled.storage.record import CATEGORY_NUMBERS, LabelKey, SessionState

__all__ = ["Assembly"]

LABELS_MAX: Final = 65_536
"""Labels kept in memory; past them, known ones are stored once more."""


class Assembly:
    """Collects requests into a batch without touching the log's state; `settle` moves the state once it is durable.

    Args:
        log: Where the log stands.
        states: Sessions known to the writer, by key.
        found: What the medium knows of what this batch wanted.
        time: When the batch is written, microseconds since 1970.
        salts: 16 random bytes for each draft.
    """

    def __init__(
        self, log: LogState, states: Mapping[SessionKey, SessionState], found: Found, time: int, salts: bytes
    ) -> None:
        self.batch = Batch()
        self.states: dict[SessionKey, SessionState] = {}
        """The sessions that this batch changes, as they will be."""
        self._log = log
        self._known = states
        self._found = found
        self._head = log.head
        self._frontier = log.frontier.copy()
        self._time = max(time, log.time)
        self._time_text = format_time(self._time)
        self._salts = salts
        self._tenants: dict[str, int] = {}
        self._labels: dict[LabelKey, int] = {}
        self._session_number = log.session_number
        self.ids: dict[ActionKey, tuple[Event, bytes | None]] = {}
        """Every event of this batch, with the digest of its request."""
        self.ended: set[ActionKey] = set()
        """Actions that this batch ends."""

    def admit(self, entry: Entry) -> Appended | slice:
        """Write the request into the batch; return the slice of its events there, or what it had written before.

        Raises:
            Conflict, SessionNotFound: a precondition does not hold; the batch is as if the request had never been.
        """
        start = len(self.batch.events)
        if entry.plain:  # most are, and this spares them a tenth of the writer's work
            item = entry.items[0]
            state = self.states.get(entry.home) or self._known.get(entry.home) or self._found.sessions.get(entry.home)
            if state is not None and not (state.closed or item[1] in self.ids or item[1] in self._found.events):
                self._write(item, entry.home, state)
                return slice(start, start + 1)
        earlier = self._earlier(entry)
        if earlier is not None:
            return earlier
        self._judge(entry)
        for item in entry.items:
            home = (item[1][0], item[0].session)
            self._write(item, home, self._state(home) or self._create(home))
        return slice(start, start + len(entry.items))

    def seal(self, interval: int) -> Batch:
        """Return the finished batch, with a checkpoint of the tree when `interval` events have come since the last."""
        if self._head - self._log.checkpoint >= interval:
            frontier = self._frontier
            self.batch.checkpoint = (frontier.size, frontier.dump(), frontier.root())
        return self.batch

    def settle(self, log: LogState) -> None:
        """Move the state of the log to behind this batch."""
        log.head = self._head
        log.time = self._time
        log.frontier = self._frontier
        log.tenants.update(self._tenants)
        log.session_number = self._session_number
        if self._labels:
            if len(log.labels) > LABELS_MAX:
                log.labels.clear()
            log.labels.update(self._labels)
            log.label_number += len(self._labels)
        if self.batch.checkpoint is not None:
            log.checkpoint = self.batch.checkpoint[0]

    def _earlier(self, entry: Entry) -> Appended | None:
        ids, events = self.ids, self._found.events
        known = [earlier for _, key, _, _ in entry.items if (earlier := ids.get(key) or events.get(key)) is not None]
        if not known:
            return None
        drafts = entry.request.drafts
        if len(known) != len(drafts) or not all(map(_same, drafts, known)):
            raise IdReused("The event id was used before, by another request; use a fresh id.", id=known[0][0].id)
        return Appended(tuple(event for event, _ in known), repeated=True)

    def _state(self, key: SessionKey) -> SessionState | None:
        return self.states.get(key) or self._known.get(key) or self._found.sessions.get(key)

    def _judge(self, entry: Entry) -> None:
        request = entry.request
        first = request.drafts[0]
        home = entry.home
        state = self._state(home)
        if request.create:
            if state is not None:
                raise SessionExists(f"There is a session {first.session!r} already.")
        elif state is None:
            raise _missing(first.session)
        for key in entry.others:
            if self._state(key) is None:
                raise _missing(key[1])
        if request.fence is not None and (state is None or state.fence != request.fence):
            raise StaleFence(f"Claim {request.fence} on session {first.session!r} is not its newest.")
        if request.expected_sequence is not None:
            last = -1 if state is None else state.client_sequence
            if request.expected_sequence != last:
                raise SequenceMismatch(
                    f"The last submitted event of session {first.session!r} has sequence {last}, "
                    f"not {request.expected_sequence}.",
                    sequence=last,
                )
        for action in entry.opens:
            if action in self.ended or action in self._found.ended:
                raise ActionEnded("The action has ended already.")
        if len(request.drafts) > 1 or entry.actions:
            self._judge_drafts(entry)
        elif first.category == ACTION and first.source == "client" and state is not None and state.closed:
            raise _closed(first.session)

    def _judge_drafts(self, entry: Entry) -> None:
        closed: set[SessionKey] = set()
        ending: set[ActionKey] = set()
        for draft, _, cause, _ in entry.items:
            key = (draft.tenant, draft.session)
            if draft.terminal and cause is not None:
                action = (draft.tenant, cause)
                if action in self.ended or action in self._found.ended or action in ending:
                    raise ActionEnded(f"Action {draft.cause} has its terminal observation already.")
                ending.add(action)
            if draft.category == ACTION and draft.source == "client":
                state = self._state(key)
                if key in closed or (state is not None and state.closed):
                    raise _closed(draft.session)
            elif draft.kind == "session_closed":
                closed.add(key)

    def _write(self, item: Item, home: SessionKey, state: SessionState) -> None:
        draft, key, cause, texts = item
        tenant, raw = key
        batch = self.batch
        self._head = position = self._head + 1
        sequence = state.sequence + 1
        kind, version, source, payload = draft.kind, draft.version, draft.source, draft.payload
        request, traceparent, terminal = draft.request, draft.traceparent, draft.terminal
        category = CATEGORY_NUMBERS[draft.category]
        start = 16 * len(batch.rows)
        salt = self._salts[start : start + 16]
        head = header(
            position,
            sequence,
            self._time,
            version,
            category,
            terminal,
            raw,
            cause,
            request,
            traceparent,
            state.leaf,
            texts,
        )
        leaf = event_leaf(head, salt, payload)
        self._frontier.append(leaf)
        self.states[home] = state = state.after(position, category, kind, source, leaf)
        label = (category, kind, version, draft.lane, source, draft.actor)
        number = self._log.labels.get(label) or self._labels.get(label) or self._label(label)
        # Written out here and not in a function each: a call is 2 % of what an event costs.
        row = (
            position, state.number, sequence, state.tenant, raw, number, cause, terminal, self._time, request,
            traceparent, state.client_sequence, state.fence, state.closed, leaf, salt, payload,
        )  # fmt: skip
        batch.rows.append(row)
        event = Event(
            position, tenant, draft.session, sequence, draft.id, kind, version, draft.category, draft.lane, source,
            draft.actor, self._time_text, Raw(payload), leaf.hex(), draft.cause, traceparent,
        )  # fmt: skip
        batch.events.append(event)
        self.ids[key] = (event, request)
        if terminal and cause is not None:
            self.ended.add((tenant, cause))
        for blob in draft.blobs:
            batch.blobs.append((state.number, bytes.fromhex(blob), position))

    def _create(self, key: SessionKey) -> SessionState:
        tenant = self._log.tenants.get(key[0]) or self._tenants.get(key[0])
        if tenant is None:
            tenant = self._tenants[key[0]] = len(self._log.tenants) + len(self._tenants) + 1
            self.batch.tenants.append((tenant, key[0]))
        self._session_number += 1
        self.batch.sessions.append((self._session_number, tenant, key[1]))
        return SessionState(self._session_number, tenant)

    def _label(self, label: LabelKey) -> int:
        number = self._log.label_number + len(self._labels) + 1
        self._labels[label] = number
        self.batch.labels.append((number, *label))
        return number


def _same(draft: Draft, known: tuple[Event, bytes | None]) -> bool:
    # The payload is not compared: the digest stands for it where a client submitted it, and for what we made ourselves
    # the id does; a retry after a crash may word its observation a little differently.
    event, request = known
    return (
        draft.request == request
        and draft.session == event.session
        and draft.category == event.category
        and draft.kind == event.kind
    )


def _missing(session: str) -> SessionNotFound:
    return SessionNotFound(f"There is no session {session!r}.")


def _closed(session: str) -> SessionClosed:
    return SessionClosed(f"Session {session!r} is closed and takes no more actions.")
