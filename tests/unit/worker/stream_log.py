"""The log as a worker sees it, over any event store in this process."""

# The protocols say what each method promises; repeated here it would be noise.
# ruff: noqa: D102

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from chronicled.events.blobs import BlobRef, BlobStore
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE, Draft, Event
from chronicled.events.errors import SessionNotFound
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.lifecycle import SessionClaimed, SessionReleased
from chronicled.events.lanes import SessionFold
from chronicled.events.session_secrets import SessionSecrets
from chronicled.events.store import Append, EventStore, Page
from chronicled.events.stream import EventStream
from chronicled.events.worker_log import Claim, SessionKey


class StreamWorkerLog:
    """Claims are the fold as it stood at the claim's own commit, taken by a listener of the store."""

    def __init__(self, store: EventStore, stream: EventStream, blobs: BlobStore, codec: Codec, name: str) -> None:
        self.events = store
        self.stream = stream
        self.blobs = blobs
        self.codec = codec
        self.name = name
        self.ids = SystemIds()
        self.folds: dict[tuple[str, str], SessionFold] = {}
        self.secrets: dict[SessionKey, SessionSecrets] = {}
        self.originals: dict[str, bytes] = {}
        self._claims: dict[int, Claim] = {}
        self._unlisten = store.listen(self.committed)

    def committed(self, events: Sequence[Event]) -> None:
        for event in events:
            key = (event.tenant, event.session)
            fold = self.folds.get(key)
            if fold is None:
                fold = self.folds[key] = SessionFold(SessionKey(*key), self.codec.registry)
            fold.apply(event)
            if event.kind == "session_claimed":
                self._claims[event.position] = fold.claim(event.position)

    @property
    def head(self) -> int:
        return self.stream.head

    async def unfinished(self) -> Sequence[SessionKey]:
        return [fold.key for fold in self.folds.values() if fold.closed is None or fold.sandbox or len(fold)]

    async def held(self) -> Sequence[SessionKey]:
        return [fold.key for fold in self.folds.values() if fold.newer is not None]

    async def claim(self, key: SessionKey) -> Claim:
        if (key.tenant, key.session) not in self.folds:
            raise SessionNotFound(f"There is no session {key.session!r}.")
        payload = SessionClaimed(worker=self.name, boot_id="boot")
        event = (await self._append(key, [self._lifecycle(key, "session_claimed", payload)], None))[0]
        return self._claims.pop(event.position)

    def follow(self, after: int) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        return self.stream.subscribe(after)

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        return await self._append(key, drafts, fence)

    async def put_blob(self, data: bytes) -> BlobRef:
        return await self.blobs.put(data)

    async def adopt_blob(self, path: str, digest: str, size: int) -> BlobRef:
        return await self.blobs.adopt(path, digest, size)

    async def read_blob(self, key: SessionKey, digest: str) -> bytes:
        return b"".join([chunk async for chunk in self.blobs.read(digest)])

    async def copy_blob(self, key: SessionKey, digest: str, descriptor: int) -> int:
        return os.write(descriptor, await self.read_blob(key, digest))

    async def resolve_secrets(self, key: SessionKey) -> SessionSecrets:
        """Return what a test has put there."""
        return self.secrets.get(key, SessionSecrets())

    async def original(self, key: SessionKey, event: Event) -> bytes | None:
        """Return what a test has put there."""
        return self.originals.get(event.id)

    async def release(self, key: SessionKey, fence: int, reason: str) -> None:
        payload = SessionReleased(worker=self.name, reason=reason)
        await self._append(key, [self._lifecycle(key, "session_released", payload)], fence)

    async def _append(self, key: SessionKey, drafts: Sequence[Draft], fence: int | None) -> tuple[Event, ...]:
        return (await self.stream.append(Append(tuple(drafts), fence=fence))).events

    def _lifecycle(self, key: SessionKey, kind: str, payload: Any) -> Draft:
        return self.codec.draft(
            LIFECYCLE, kind, payload, tenant=key.tenant, session=key.session, id=self.ids.new(), source="worker"
        )
