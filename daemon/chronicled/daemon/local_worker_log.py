"""The log for a worker in the daemon's own process (D10)."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec
from anyio import to_thread

from chronicled.daemon.vault import Vault
from chronicled.events.blobs import BlobRef, BlobStore
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE, Draft, Event
from chronicled.events.errors import BlobNotFound, SessionNotFound, StorageFull, StoreFailed
from chronicled.events.ids import IdSource
from chronicled.events.kinds.lifecycle import SessionClaimed, SessionReleased
from chronicled.events.lanes import SessionFold
from chronicled.events.limits import PAGE_EVENTS_MAX
from chronicled.events.session_secrets import SessionSecrets
from chronicled.events.store import Append, Filter, Page
from chronicled.events.stream import EventStream
from chronicled.events.worker_log import Claim, SessionKey
from chronicled.storage.projections import Projections

__all__ = ["LocalWorkerLog"]


class LocalWorkerLog:
    """A `WorkerLog` straight over the store: what it returns has been committed, what it refuses was not written.

    Args:
        stream: Where to append, and what to follow.
        blobs: Where big bytes go.
        projections: The folds; they listen to the same log.
        codec: Makes the claim's events.
        ids: Their ids.
        worker: Name of the worker, as `session_claimed` and `actor` tell it.
        boot_id: Of the host.
        vault: The sessions' secrets.
    """

    def __init__(
        self,
        stream: EventStream,
        blobs: BlobStore,
        projections: Projections,
        codec: Codec,
        ids: IdSource,
        worker: str,
        boot_id: str,
        vault: Vault,
    ) -> None:
        self._stream = stream
        self._blobs = blobs
        self._projections = projections
        self._codec = codec
        self._ids = ids
        self._worker = worker
        self._boot_id = boot_id
        self._vault = vault

    @property
    def head(self) -> int:
        """Position of the last committed event."""
        return self._stream.head

    async def unfinished(self) -> Sequence[SessionKey]:
        """Return every session that is open, or has a sandbox or open actions, in the order of creation."""
        await self._projections.settle()
        return [key for key in self._projections.unfinished() if not self._is_held(key)]

    async def held(self) -> Sequence[SessionKey]:
        """Return the unfinished sessions that only a newer version understands; see `WorkerLog.held`."""
        await self._projections.settle()
        return [key for key in self._projections.unfinished() if self._is_held(key)]

    def _is_held(self, key: SessionKey) -> bool:
        fold = self._projections.find(key.tenant, key.session)
        return fold is not None and fold.newer is not None

    async def claim(self, key: SessionKey) -> Claim:
        """Append `session_claimed` and return the hold.

        The claim tells the session exactly as of its own position: following from `fence` misses and repeats nothing.

        Raises:
            SessionNotFound: there is no such session.
            StorageFull, Overloaded, StoreClosed, StoreFailed: see `EventStore.append`.

        Cancellation: the session may be claimed or not; a later claim replaces it either way.
        """
        payload = SessionClaimed(worker=self._worker, boot_id=self._boot_id)
        draft = self._draft(key, "session_claimed", payload)
        self._projections.watch_claim(draft.id)
        try:
            appended = await self._stream.append(Append((draft,)))
        finally:
            claim = self._projections.take_claim(draft.id)
        if claim is None:
            claim = await self._fold_from_log(key, appended.events[0].position)
        summary = await self._projections.session(key.tenant, key.session)
        return msgspec.structs.replace(claim, active_time="" if summary is None else summary.active_time)

    def follow(self, after: int) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        """Follow the events of all sessions behind position `after`."""
        return self._stream.subscribe(after)

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Append under the fence; see `WorkerLog.publish`.

        Raises:
            SessionClosed: the session is over and its secrets are destroyed: what comes now may not be redacted.
            ValueError: a draft is of another session, where the fence says nothing.
        """
        for draft in drafts:
            if (draft.tenant, draft.session) != (key.tenant, key.session):
                raise ValueError(f"a draft for {draft.tenant}/{draft.session} under the claim of {key}")
        if not drafts:
            return ()
        self._vault.check_open(key)
        return (await self._stream.append(Append(tuple(drafts), fence=fence))).events

    async def put_blob(self, data: bytes) -> BlobRef:
        """Store bytes that an event is about to name; see `BlobStore.put`."""
        return await self._blobs.put(data)

    async def adopt_blob(self, path: str, digest: str, size: int) -> BlobRef:
        """Move a finished file into the blob store; see `BlobStore.adopt`."""
        return await self._blobs.adopt(path, digest, size)

    async def read_blob(self, key: SessionKey, digest: str) -> bytes:
        """Return the whole of a blob of the session; see `WorkerLog.read_blob`.

        The digest comes from an event of the session that was read in this process, so that is not asked again.
        """
        data = b"".join([chunk async for chunk in self._blobs.read(digest)])
        if await to_thread.run_sync(_digest_of, data) != digest:
            raise BlobNotFound(f"The blob {digest} is damaged: its bytes have another digest.")
        return data

    async def copy_blob(self, key: SessionKey, digest: str, descriptor: int) -> int:
        """Write the whole of a blob to a file; see `WorkerLog.copy_blob`. Its digest is as in `read_blob`."""
        hashed, size = hashlib.sha256(), 0
        async for chunk in self._blobs.read(digest):
            await to_thread.run_sync(_copy, chunk, descriptor, hashed.update)
            size += len(chunk)
        if hashed.hexdigest() != digest:
            raise BlobNotFound(f"The blob {digest} is damaged: its bytes have another digest.")
        return size

    async def resolve_secrets(self, key: SessionKey) -> SessionSecrets:
        """Return what the session's sandboxes are given; see `WorkerLog.resolve_secrets`."""
        return self._vault.secrets(key)

    async def original(self, key: SessionKey, event: Event) -> bytes | None:
        """Return the payload as the client sent it; see `WorkerLog.original`."""
        return await self._vault.original(key, event)

    async def release(self, key: SessionKey, fence: int, reason: str) -> None:
        """Append `session_released`.

        Raises:
            StaleFence: another worker has claimed the session, so there is nothing to give back.
        """
        payload = SessionReleased(worker=self._worker, reason=reason)
        await self.publish(key, fence, [self._draft(key, "session_released", payload)])

    def _draft(self, key: SessionKey, kind: str, payload: msgspec.Struct) -> Draft:
        return self._codec.draft(
            LIFECYCLE,
            kind,
            payload,
            tenant=key.tenant,
            session=key.session,
            id=self._ids.new(),
            source="worker",
            actor=f"worker:{self._worker}",
        )

    async def _fold_from_log(self, key: SessionKey, position: int) -> Claim:
        """Fold a session that is over, which no projection holds in memory, up to `position`."""
        fold = SessionFold(key, self._codec.registry)
        where = Filter(tenant=key.tenant, session=key.session)
        after = 0
        while after < position:
            page = await self._stream.read(after, PAGE_EVENTS_MAX, where)
            fold.extend(event for event in page.events if event.position <= position)
            after = page.next
        if fold.created is None:
            raise SessionNotFound(f"There is no session {key.session!r}.")
        return fold.claim(position)


def _copy(chunk: bytes, descriptor: int, note: Callable[[bytes], None]) -> None:
    note(chunk)
    view = memoryview(chunk)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFull("There is no room for a copy of the blob.") from error
        raise StoreFailed(f"A blob could not be copied: {error}.") from error


def _digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
