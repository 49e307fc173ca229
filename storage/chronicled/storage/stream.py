"""The event stream over any event store: read from a position, then follow, without gap or repeat (D4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self

from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, InvalidCursor, StoreClosed
from chronicled.events.limits import PAGE_EVENTS_MAX
from chronicled.events.store import Append, Appended, EventStore, Filter, Page
from chronicled.storage.ring import RING_BYTES_MAX, Commit, Ring

__all__ = ["LogStream", "Subscription"]

ADVANCE_EVENTS: Final = 1024
"""Unwanted positions after which a follower gets an empty page, so that its cursor does not fall behind for ever."""
_Key = tuple[str, str]


class LogStream:
    """Append to and follow the log of one store; see `EventStream`.

    Memory: the newest commits stand in one ring, at most `ring_bytes_max`, whatever the number of subscribers; a
    subscriber is a cursor. One that falls out of the ring reads from the store, in pages, until it is back in it.
    A subscriber of one session is woken only by commits that concern it.
    """

    def __init__(self, store: EventStore, *, ring_bytes_max: int = RING_BYTES_MAX) -> None:
        self.store = store
        self._ring = Ring(store.head, ring_bytes_max)
        self._waiting: set[Subscription] = set()
        self._waiting_by_session: dict[_Key, set[Subscription]] = {}
        self._ended: ChronicledError | None = None
        self._unlisten = store.listen(self._committed)
        store.on_failure(self._end)

    @property
    def incarnation(self) -> str:
        """The log's incarnation."""
        return self.store.incarnation

    @property
    def head(self) -> int:
        """Position of the last committed event."""
        return self._ring.head

    def append(self, request: Append) -> Coroutine[Any, Any, Appended]:
        """Append durably; see `EventStore.append`. The store's own coroutine: one frame less for each append."""
        return self.store.append(request)

    async def read(self, after: int, limit: int, where: Filter | None = None) -> Page:
        """Return one page; see `EventStore.read`."""
        return await self.store.read(after, limit, where)

    def subscribe(self, after: int, where: Filter | None = None) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        """Read everything wanted behind `after`, then follow for ever; see `EventStream.subscribe`.

        Raises:
            InvalidCursor: `after` is no place in this log.
        """
        if not 0 <= after <= self.head:
            raise InvalidCursor(f"There is no position {after}: the log's head is {self.head}.")
        return Subscription(self, after, where or Filter())

    async def aclose(self) -> None:
        """End every subscription with `StoreClosed`. The store stays open: it is its owner's to close."""
        self._end(StoreClosed("The stream is closed."))

    def _end(self, error: ChronicledError) -> None:
        if self._ended is None:
            self._ended = error
            self._unlisten()
            for group in (self._waiting, *self._waiting_by_session.values()):
                for subscription in group:
                    subscription.wake()
            self._waiting.clear()
            self._waiting_by_session.clear()

    def _committed(self, events: tuple[Event, ...]) -> None:
        commit = Commit(events)
        self._ring.add(commit)
        for subscription in self._waiting:
            subscription.wake()
        self._waiting.clear()
        if self._waiting_by_session:
            for key in {(event.tenant, event.session) for event in events}:
                for subscription in self._waiting_by_session.pop(key, ()):
                    subscription.skip(commit.first - 1)
                    subscription.wake()

    def check(self) -> None:
        """Return if the stream goes on; raise what ended it otherwise."""
        if self._ended is not None:
            raise type(self._ended)(self._ended.detail)

    def live(self, after: int, where: Filter) -> Page | None:
        """Return what the ring holds next behind `after`, None when that is no longer in it."""
        return self._ring.page(after, where) if after + 1 >= self._ring.first else None

    def enter(self, subscription: Subscription, key: _Key | None) -> None:
        """Have the subscription woken by the next commit (that concerns the session `key`)."""
        if key is None:
            self._waiting.add(subscription)
        else:
            self._waiting_by_session.setdefault(key, set()).add(subscription)

    def leave(self, subscription: Subscription, key: _Key | None) -> None:
        """Undo `enter`."""
        if key is None:
            self._waiting.discard(subscription)
        elif (group := self._waiting_by_session.get(key)) is not None:
            group.discard(subscription)
            if not group:
                del self._waiting_by_session[key]


class Subscription:
    """One follower: a cursor, and whether it waits. For one task; made by `LogStream.subscribe`.

    It is in one of two states. CATCHUP: its cursor lies before the ring, it reads pages from the store. LIVE: it takes
    commits from the ring, and waits when it has seen the head. Whether the ring holds what comes next, and taking it or
    beginning to wait, are one step of the event loop with no await in between: nothing can be committed unseen.
    """

    def __init__(self, stream: LogStream, after: int, where: Filter) -> None:
        self._stream = stream
        self._cursor = after
        self._where = where
        self._told = after
        """The cursor that its reader knows."""
        self._key = (where.tenant, where.session) if where.tenant is not None and where.session is not None else None
        self._waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Something was committed, or the stream has ended."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def skip(self, position: int) -> None:
        """Nothing wanted lies up to `position`; only for a subscription that waits, so has seen all before."""
        self._cursor = max(self._cursor, position)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Page:
        """Return the next page, waiting for it if need be.

        Raises:
            StoreClosed: the stream or store is closed.
            StoreFailed: a write or sync of the store has failed.

        Cancellation: nothing is lost; the next call goes on where the last returned page ended.
        """
        stream = self._stream
        while True:
            stream.check()
            if self._cursor >= stream.head:
                await self._wait()
                continue
            page = stream.live(self._cursor, self._where)
            if page is None:
                page = await stream.read(self._cursor, PAGE_EVENTS_MAX, self._where)
            self._cursor = page.next
            if page.events or page.next - self._told >= ADVANCE_EVENTS:
                self._told = page.next
                return page

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._stream.enter(self, self._key)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._stream.leave(self, self._key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
