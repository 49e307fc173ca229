"""The event store: where the log lives. One writer, any number of readers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import msgspec

from chronicled.events.envelope import Category, Draft, Event
from chronicled.events.errors import StoreFailed

__all__ = ["Append", "Appended", "EventStore", "Filter", "Listener", "Page"]


class Filter(msgspec.Struct, frozen=True):
    """Which events a reader wants; None (or empty) means all."""

    tenant: str | None = None
    session: str | None = None
    """Only together with `tenant`."""
    kinds: frozenset[str] = frozenset()
    categories: frozenset[Category] = frozenset()
    sources: frozenset[str] = frozenset()

    def admits(self, event: Event) -> bool:
        """Tell whether the event is wanted."""
        return (
            (self.tenant is None or event.tenant == self.tenant)
            and (self.session is None or event.session == self.session)
            and (not self.kinds or event.kind in self.kinds)
            and (not self.categories or event.category in self.categories)
            and (not self.sources or event.source in self.sources)
        )

    @property
    def everything(self) -> bool:
        """True when nothing is left out."""
        return self.tenant is None and not (self.kinds or self.categories or self.sources)


class Page(msgspec.Struct, frozen=True):
    """Consecutive wanted events. `next` may lie beyond the last of them: nothing wanted lies in between."""

    events: tuple[Event, ...]
    next: int
    """Cursor for the next read: every wanted event up to and including it has been given."""
    at_end: bool
    """True when `next` was the head of the log when the page was made."""


class Append(msgspec.Struct, frozen=True):
    """What one `append` writes: all of it, in order, side by side in one commit, or nothing."""

    drafts: tuple[Draft, ...]
    expected_sequence: int | None = None
    """Sequence of the last client-submitted event of the first draft's session, -1 when there is none."""
    fence: int | None = None
    """The claim under which a worker publishes; refused unless it is the session's newest claim."""
    open_actions: tuple[str, ...] = ()
    """Ids of actions (of the first draft's tenant) that must not have a terminal observation yet."""
    create: bool = False
    """True for the first event of a session, which must not exist yet; False needs the session to exist."""


class Appended(msgspec.Struct, frozen=True):
    """What `append` wrote, or what it had written for the same request before."""

    events: tuple[Event, ...]
    repeated: bool = False
    """True when the ids were known and the request was the same: nothing was written now."""


Listener = Callable[[tuple[Event, ...]], None]
"""Called on the event loop once a commit, in commit order, after the sync, before the acks. Must not block or raise."""


class EventStore(Protocol):
    """The append-only log (D2, D3, D5, D12).

    Ordering: positions are dense from 1 in commit order, sequences dense from 0 per session; a reader sees a prefix.
    Durability: when `append` returns, its events are on the medium.
    Failure: a full disk rolls back and raises `StorageFull`, later appends are tried afresh. Any other failed write or
    sync raises `StoreFailed` to all who wait and poisons the store: nothing is acked after it; the process must end.
    """

    @property
    def incarnation(self) -> str:
        """Changes when the log is restored or rewritten; part of every cursor that leaves us."""
        ...

    @property
    def head(self) -> int:
        """Position of the last committed event, 0 when there is none."""
        ...

    @property
    def root(self) -> bytes:
        """RFC 6962 tree hash over the leaves of positions 1 to `head`."""
        ...

    def append(self, request: Append) -> Coroutine[Any, Any, Appended]:
        """Append the drafts in one commit, together with whatever else waits (group commit).

        Idempotent: drafts whose ids are known, with the same `request` digest, return the earlier events.
        Preconditions are judged in commit order, and a failed one fails this request alone.

        Raises:
            IdReused: a draft's id is known with another request.
            SequenceMismatch: `expected_sequence` is not the session's last client-submitted sequence.
            StaleFence: a newer claim exists, or the session is not claimed.
            ActionEnded: an `open_actions` id has its terminal observation, or a terminal draft's cause has.
            SessionExists, SessionNotFound: `create` does not fit.
            SessionClosed: a client's draft for a session that is closed.
            Overloaded: too much waits for a commit already.
            InvalidRequest, PayloadTooLarge: no log could hold it, whatever else is in there.
            StorageFull: no room on the disk.
            StoreClosed, StoreFailed: see above.

        Cancellation: the append either happens whole or not at all; a retry under the same ids tells which.
        """
        ...

    async def read(self, after: int, limit: int, where: Filter | None = None) -> Page:
        """Return up to `limit` wanted events behind position `after`, in order; O(limit) for one session or no filter.

        A page may end early, or be empty with its cursor advanced: what one call looks at is bounded.

        Raises:
            InvalidCursor: `after` lies beyond the head.
            InvalidRequest: `limit` is below 1.
            StoreClosed: the store is closed.
        """
        ...

    async def find(self, tenant: str, id: str) -> Event | None:
        """Return the event of that id, or None."""
        ...

    async def request(self, tenant: str, id: str) -> bytes | None:
        """Return the digest of the request that wrote the event of that id; None without one, or without the event."""
        ...

    async def terminal(self, tenant: str, action: str) -> Event | None:
        """Return the terminal observation of the action of that id, or None."""
        ...

    async def last(self, tenant: str, session: str) -> Event | None:
        """Return the newest event of the session, or None when there is no such session."""
        ...

    async def names_blob(self, tenant: str, session: str, digest: str) -> bool:
        """Tell whether an event of the session names the blob; blobs are reached through their session only."""
        ...

    def on_failure(self, listener: Callable[[StoreFailed], None]) -> None:
        """Have `listener` called once, on the event loop, if the store fails: nothing is acked from then on."""
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called after each commit; returns a function that ends it."""
        ...

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Sequence[str]:
        """Recompute every digest, leaf, sequence and root; return what is wrong, the first bad position first.

        Empty means that the log verifies. `progress(done, total)` is called now and then.
        """
        ...

    async def aclose(self) -> None:
        """Commit what waits, then close. Later calls raise `StoreClosed`."""
        ...
