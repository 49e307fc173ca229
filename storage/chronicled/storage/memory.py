"""An event store in memory: the whole contract but durability. For tests and trials; it grows until it is closed."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final

from chronicled.events.clock import Clock, SystemClock
from chronicled.events.envelope import Event
from chronicled.events.ids import IdSource, Randomness, SystemIds, SystemRandomness, id_bytes
from chronicled.events.store import Filter, Page
from chronicled.storage.entry import SessionKey
from chronicled.storage.log_store import LogStore
from chronicled.storage.medium import Batch, Collision, Found, LogState, Wanted
from chronicled.storage.recomputation import Checkpoint, SessionName, Verification
from chronicled.storage.record import Label, SessionState, StoredEvent
from chronicled.storage.tree import Frontier
from chronicled.storage.writer import LogWriter

__all__ = ["MemoryMedium", "MemoryStore"]

SCAN_EVENTS_MAX: Final = 10_000
"""Events looked at for one page, wanted or not."""
YIELD_EVENTS: Final = 256
"""Events verified in one step of the event loop."""


class MemoryMedium:
    """Lists and dictionaries where the other media have a disk."""

    def __init__(self) -> None:
        self.rows: list[StoredEvent] = []
        self.events: list[Event] = []
        self.names: dict[int, SessionKey] = {}
        self.labels: dict[int, Label] = {}
        self.checkpoints: list[tuple[int, bytes, bytes]] = []
        self.sessions: dict[SessionKey, list[int]] = {}
        """Positions of each session's events."""
        self.ids: dict[tuple[str, bytes], int] = {}
        self.terminals: dict[tuple[str, bytes], int] = {}
        self.blobs: set[tuple[int, bytes]] = set()
        self.tenants: dict[int, str] = {}

    async def find(self, wanted: Wanted) -> Found:
        """Return what is known of the wanted."""
        found = Found()
        for key in wanted.sessions:
            if key in self.sessions:
                found.sessions[key] = self._state(self.rows[self.sessions[key][-1] - 1])
        for id in wanted.ids:
            if id in self.ids:
                position = self.ids[id]
                found.events[id] = (self.events[position - 1], self.rows[position - 1].request)
        found.ended.update(action for action in wanted.actions if action in self.terminals)
        return found

    async def write(self, batch: Batch) -> None:
        """Keep the batch.

        Raises:
            Collision: an id or a terminal observation is there already.
        """
        rows = [StoredEvent._make(row) for row in batch.rows]
        for row, event in zip(rows, batch.events, strict=True):
            ended = row.terminal and row.cause is not None and (event.tenant, row.cause) in self.terminals
            if (event.tenant, row.id) in self.ids or ended:
                raise Collision(event.id)
        for number, tenant in batch.tenants:
            self.tenants[number] = tenant
        for number, *fields in batch.labels:
            self.labels[number] = Label._make(fields)
        for number, tenant_number, name in batch.sessions:
            self.names[number] = (self.tenants[tenant_number], name)
        for row, event in zip(rows, batch.events, strict=True):
            self.sessions.setdefault((event.tenant, event.session), []).append(row.position)
            self.ids[event.tenant, row.id] = row.position
            if row.terminal and row.cause is not None:
                self.terminals[event.tenant, row.cause] = row.position
        self.rows += rows
        self.events += batch.events
        self.blobs.update((session, digest) for session, digest, _ in batch.blobs)
        if batch.checkpoint is not None:
            self.checkpoints.append(batch.checkpoint)

    async def release_reserve(self) -> bool:
        """Return False: memory has no reserve."""
        return False

    async def refill_reserve(self) -> bool:
        """Return True: nothing is missing."""
        return True

    def _state(self, row: StoredEvent) -> SessionState:
        return SessionState(
            row.session, row.tenant, row.sequence, row.client_sequence, row.fence, bool(row.closed), row.leaf
        )


class MemoryStore(LogStore):
    """An event store in memory; see `EventStore`. Nothing outlives `aclose`."""

    def __init__(self, medium: MemoryMedium, writer: LogWriter, incarnation: str) -> None:
        super().__init__(writer, incarnation)
        self._medium = medium

    @classmethod
    async def open(
        cls, *, clock: Clock | None = None, ids: IdSource | None = None, randomness: Randomness | None = None
    ) -> MemoryStore:
        """Return a new, empty store."""
        medium = MemoryMedium()
        log = LogState(0, 0, Frontier(), {}, 0, {}, 0, 0)
        writer = LogWriter(medium, log, clock or SystemClock(), randomness or SystemRandomness())
        writer.start()
        return cls(medium, writer, (ids or SystemIds()).new())

    async def read(self, after: int, limit: int, where: Filter | None = None) -> Page:
        """Return one page; see `EventStore.read`."""
        limit = self._checked(after, limit)
        where = where or Filter()
        medium, head = self._medium, self.head
        positions: Sequence[int] = range(1, head + 1)
        if where.tenant is not None and where.session is not None:
            positions = medium.sessions.get((where.tenant, where.session), ())
        events: list[Event] = []
        start = bisect_right(positions, after)
        for position in positions[start : start + SCAN_EVENTS_MAX]:
            if where.admits(event := medium.events[position - 1]):
                events.append(event)
                if len(events) == limit:
                    return Page(tuple(events), position, position == head)
        last = start + SCAN_EVENTS_MAX
        next = head if last >= len(positions) else positions[last - 1]
        return Page(tuple(events), next, next == head)

    async def find(self, tenant: str, id: str) -> Event | None:
        """Return the event of that id, or None."""
        self._writer.check()
        return self._at(self._medium.ids.get((tenant, id_bytes(id))))

    async def request(self, tenant: str, id: str) -> bytes | None:
        """Return the digest of the request that wrote the event of that id, or None."""
        self._writer.check()
        position = self._medium.ids.get((tenant, id_bytes(id)))
        return None if position is None else self._medium.rows[position - 1].request

    async def terminal(self, tenant: str, action: str) -> Event | None:
        """Return the terminal observation of the action of that id, or None."""
        self._writer.check()
        return self._at(self._medium.terminals.get((tenant, id_bytes(action))))

    async def last(self, tenant: str, session: str) -> Event | None:
        """Return the newest event of the session, or None when there is no such session."""
        self._writer.check()
        positions = self._medium.sessions.get((tenant, session))
        return self._at(positions[-1] if positions else None)

    async def names_blob(self, tenant: str, session: str, digest: str) -> bool:
        """Tell whether an event of the session names the blob."""
        self._writer.check()
        positions = self._medium.sessions.get((tenant, session))
        if not positions:
            return False
        return (self._medium.rows[positions[-1] - 1].session, bytes.fromhex(digest)) in self._medium.blobs

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Sequence[str]:
        """Recompute everything up to the head; see `EventStore.verify`."""
        self._writer.check()
        medium, head, root = self._medium, self.head, self.root
        names = {name: number for number, name in medium.tenants.items()}

        def session(number: int) -> SessionName | None:
            key = medium.names.get(number)
            return None if key is None else SessionName(number, names[key[0]], *key)

        verification = Verification(session, medium.labels.get, [Checkpoint(*kept) for kept in medium.checkpoints])
        for row in medium.rows[:head]:
            verification.take(row, None)
            if row.position % YIELD_EVENTS == 0:
                await asyncio.sleep(0)
                if progress is not None:
                    progress(row.position, head)
        return verification.finish(head, root).problems

    def _at(self, position: int | None) -> Event | None:
        return None if position is None else self._medium.events[position - 1]
