"""The event stream: append, and follow from any position without gap or repeat."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from chronicled.events.store import Append, Appended, Filter, Page

__all__ = ["EventStream"]


class EventStream(Protocol):
    """What everybody but the store itself sees of the log (D4).

    A subscription is "read from position n, then follow", in one call: no gap and no repeat between disk and live tail.
    It is pushed, never polled. A slow reader falls back to reading from disk; it never holds memory or other readers.
    """

    @property
    def incarnation(self) -> str:
        """The log's incarnation."""
        ...

    @property
    def head(self) -> int:
        """Position of the last committed event."""
        ...

    def append(self, request: Append) -> Coroutine[Any, Any, Appended]:
        """Append durably; see `EventStore.append` for guarantees and errors."""
        ...

    async def read(self, after: int, limit: int, where: Filter | None = None) -> Page:
        """Return one page; see `EventStore.read`."""
        ...

    def subscribe(self, after: int, where: Filter | None = None) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        """Read everything wanted behind `after`, then follow for ever, page by page.

        A page holds what one commit (or one read from disk) brought; it may be empty with its cursor advanced.

        Raises:
            InvalidCursor: at once, when `after` lies beyond the head.
            StoreClosed: from the iterator, when the stream is closed.
            StoreFailed: from the iterator, when a write or sync has failed.

        Cancellation: safe at any point; leaving the context frees everything.
        """
        ...
