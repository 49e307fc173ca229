"""What the writer asks of the place where the log is kept; memory and SQLite differ only in this."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from chronicled.events.envelope import Event
from chronicled.storage.entry import ActionKey, SessionKey
from chronicled.storage.record import LabelKey, SessionState
from chronicled.storage.tree import Frontier

__all__ = ["Batch", "Collision", "Found", "LogState", "Medium", "Wanted"]


class Collision(Exception):
    """Raised by a medium when a unique index refused the batch: something that was thought new was there."""


class LogState(msgspec.Struct):
    """Where the log stands: what the next batch is built on."""

    head: int
    time: int
    """Of the newest event; the next is not earlier, whatever the clock says."""
    frontier: Frontier
    tenants: dict[str, int]
    """Every tenant's number."""
    session_number: int
    """The newest session's."""
    labels: dict[LabelKey, int]
    """Numbers of labels; one that is missing here is stored once more, under another number."""
    label_number: int
    """The newest label's."""
    checkpoint: int
    """Size of the tree at its newest checkpoint."""

    def copy(self) -> LogState:
        """Return an independent copy."""
        return LogState(
            self.head,
            self.time,
            self.frontier.copy(),
            self.tenants.copy(),
            self.session_number,
            self.labels.copy(),
            self.label_number,
            self.checkpoint,
        )


class Wanted(msgspec.Struct):
    """What a batch must know before it can be judged."""

    sessions: list[SessionKey]
    ids: list[ActionKey]
    actions: list[ActionKey]


class Found(msgspec.Struct):
    """What is known of the wanted; what is missing does not exist."""

    sessions: dict[SessionKey, SessionState] = {}
    events: dict[ActionKey, tuple[Event, bytes | None]] = {}
    """By id: the event and the digest of the request that wrote it."""
    ended: set[ActionKey] = set()
    """Those of the actions that have their terminal observation."""


class Batch(msgspec.Struct):
    """One commit."""

    rows: list[tuple[Any, ...]] = []
    """Columns in the order of `StoredEvent`; bare tuples, since they are bound faster."""
    events: list[Event] = []
    tenants: list[tuple[int, str]] = []
    sessions: list[tuple[int, int, str]] = []
    """Number, tenant's number and name of each new session."""
    labels: list[tuple[int, int, str, int, str, str, str]] = []
    """Number and fields of each new label."""
    blobs: list[tuple[int, bytes, int]] = []
    """Session, digest and position of each blob that is named."""
    checkpoint: tuple[int, bytes, bytes] | None = None
    """Size, frontier and root of the tree, where it is time to keep them."""

    @property
    def is_bare(self) -> bool:
        """Whether it is events alone."""
        return not (self.tenants or self.sessions or self.labels or self.blobs or self.checkpoint)


class Medium(Protocol):
    """One log's storage. Its methods are called by one task, one after another."""

    async def find(self, wanted: Wanted) -> Found:
        """Return what is known of the wanted."""
        ...

    async def write(self, batch: Batch) -> None:
        """Put the batch on the medium, whole or not at all; on return it is durable.

        Raises:
            Collision: an id, a session or a terminal observation is there already; nothing was written.
            StorageFull: there is no room; nothing was written, and a later call may succeed.
            StoreFailed: whether it was written is unknown; nothing may be written any more.
        """
        ...

    async def release_reserve(self) -> bool:
        """Give a part of the room kept for bad times to the log; False when none is left."""
        ...

    async def refill_reserve(self) -> bool:
        """Take the room for bad times again; False when the disk has not enough."""
        ...
