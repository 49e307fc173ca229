"""The log as a worker sees it (D10): claim, follow, publish under a fence, put blobs, release.

The composition root gives a worker either an implementation in the same process or a client of the daemon.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from chronicled.events.blobs import BlobRef
from chronicled.events.envelope import Draft, Event
from chronicled.events.session_secrets import SessionSecrets
from chronicled.events.store import Page

__all__ = ["Claim", "SessionKey", "WorkerLog"]


class SessionKey(msgspec.Struct, frozen=True, order=True):
    """Which session: a name is unique per tenant only."""

    tenant: str
    session: str


class Claim(msgspec.Struct, frozen=True):
    """A worker's hold on a session, and the fold of the session's log at the moment of the claim."""

    key: SessionKey
    fence: int
    """Position of the claim event. What the worker publishes carries it; a newer claim makes it stale."""
    created: Event
    """The session's `session_created`."""
    generation: Event | None
    """The newest `generation_started` without a `generation_ended`, or None."""
    sandbox: Event | None
    """The newest `sandbox_requested` without a `sandbox_removed`, or None."""
    closed: Event | None
    """The session's `session_closed`, or None while it is open."""
    open_actions: tuple[Event, ...]
    """Runnable actions without a terminal observation, in position order."""
    requests: tuple[Event, ...]
    """`cancel_requested`, `interrupt_requested` and `input_sent` events of those actions, in position order."""
    losses: tuple[Event, ...] = ()
    """The newest `generation_ended` and each lane's newest `lane_restarted`, in position order: an action before one of
    them that never ran has lost the state that it was accepted for."""
    standing: tuple[Event, ...] = ()
    """What still holds of `pause_requested`, `restart_requested`, `sandbox_paused` and `secret_registered`, and the
    newest `generation_started`, over or not, with its end where that is not among `losses`, in position order."""
    active_time: str = ""
    """When a client last asked for something, or an action ended, as the log tells time; empty when not known."""


class WorkerLog(Protocol):
    """What a worker may do with the log. Every wait is bounded by the caller."""

    @property
    def head(self) -> int:
        """Position of the last committed event."""
        ...

    async def unfinished(self) -> Sequence[SessionKey]:
        """Return every session that is open, or has a sandbox or open actions: what a starting worker must claim."""
        ...

    async def held(self) -> Sequence[SessionKey]:
        """Return the unfinished sessions that hold what only a newer version of this program understands.

        They are not among those that `unfinished` returns: no worker of this version touches anything of theirs.
        """
        ...

    async def claim(self, key: SessionKey) -> Claim:
        """Append `session_claimed` and return the hold; whoever held it before can publish nothing any more.

        Raises:
            SessionNotFound: there is no such session.
        """
        ...

    def follow(self, after: int) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        """Follow the events of all sessions behind position `after`."""
        ...

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Append under the fence, durably, all or nothing.

        Raises:
            StaleFence: another worker has claimed the session; stop touching it.
            ActionEnded: a terminal draft's action has its terminal observation already.
            StorageFull: no room; retry later.
        """
        ...

    async def put_blob(self, data: bytes) -> BlobRef:
        """Store bytes that an event is about to name."""
        ...

    async def adopt_blob(self, path: str, digest: str, size: int) -> BlobRef:
        """Move a finished file into the blob store, durably; see `BlobStore.adopt`."""
        ...

    async def read_blob(self, key: SessionKey, digest: str) -> bytes:
        """Return the whole of a blob that an event of the session names, with the digest that it is asked for by.

        Raises:
            BlobNotFound: there is none, or its bytes do not have that digest any more.
            StoreFailed: it cannot be read.
        """
        ...

    async def copy_blob(self, key: SessionKey, digest: str, descriptor: int) -> int:
        """Write the whole of a blob that an event of the session names to a file, in bounded memory; return its size.

        Raises:
            BlobNotFound: there is none, or its bytes do not have that digest any more.
            StorageFull: there is no room for the copy.
            StoreFailed: it cannot be read, or not written otherwise.

        Cancellation: the file holds a part of it.
        """
        ...

    async def resolve_secrets(self, key: SessionKey) -> SessionSecrets:
        """Return what the session's sandboxes are given on top of its environment, as of now.

        Raises:
            SecretsUnavailable: the session's secrets cannot be read: nothing of it may be published.
        """
        ...

    async def original(self, key: SessionKey, event: Event) -> bytes | None:
        """Return the payload of an open action, or of input to it, as the client sent it: what is to be executed.

        None when nothing of it was redacted: then the event has it.

        Raises:
            SecretsUnavailable: it cannot be read.
        """
        ...

    async def release(self, key: SessionKey, fence: int, reason: str) -> None:
        """Give the session back."""
        ...
