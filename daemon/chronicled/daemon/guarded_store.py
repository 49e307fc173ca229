"""An event store that ends the process when a write has failed, whoever made the append (fail-stop)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from chronicled.events.envelope import Event
from chronicled.events.errors import StorageFull, StoreFailed
from chronicled.events.store import Append, Appended, EventStore, Filter, Listener, Page

__all__ = ["GuardedStore"]

FULL_SECONDS: Final = 5.0


class GuardedStore:
    """Passes everything on to `store`; see `EventStore`. No caller ever sees an append's `StoreFailed`.

    Args:
        store: The log.
        fail: Called with the failure; does not return.
    """

    def __init__(self, store: EventStore, fail: Callable[[BaseException], NoReturn]) -> None:
        self._store = store
        self._fail = fail
        self._full_until = 0.0

    @property
    def full(self) -> bool:
        """Whether an append was refused for want of room a moment ago. Wears off: only an append can find out again."""
        return time.monotonic() < self._full_until

    @property
    def incarnation(self) -> str:
        """The log's incarnation."""
        return self._store.incarnation

    @property
    def head(self) -> int:
        """Position of the last committed event."""
        return self._store.head

    @property
    def root(self) -> bytes:
        """The tree's root."""
        return self._store.root

    async def append(self, request: Append) -> Appended:
        """Append, or end the process if it is not known whether that reached the disk."""
        try:
            return await self._store.append(request)
        except StoreFailed as error:
            self._fail(error)
        except StorageFull:
            self._full_until = time.monotonic() + FULL_SECONDS
            raise

    async def read(self, after: int, limit: int, where: Filter | None = None) -> Page:
        """Read a page."""
        return await self._store.read(after, limit, where)

    async def find(self, tenant: str, id: str) -> Event | None:
        """Return the event of that id, or None."""
        return await self._store.find(tenant, id)

    async def request(self, tenant: str, id: str) -> bytes | None:
        """Return the digest of the request that wrote the event, or None."""
        return await self._store.request(tenant, id)

    async def terminal(self, tenant: str, action: str) -> Event | None:
        """Return the action's terminal observation, or None."""
        return await self._store.terminal(tenant, action)

    async def last(self, tenant: str, session: str) -> Event | None:
        """Return the session's newest event, or None."""
        return await self._store.last(tenant, session)

    async def names_blob(self, tenant: str, session: str, digest: str) -> bool:
        """Tell whether an event of the session names the blob."""
        return await self._store.names_blob(tenant, session, digest)

    def on_failure(self, listener: Callable[[StoreFailed], None]) -> None:
        """Have `listener` called if the store fails."""
        self._store.on_failure(listener)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called after each commit."""
        return self._store.listen(listener)

    async def verify(self, progress: Callable[[int, int], None] | None = None) -> Sequence[str]:
        """Verify the log."""
        return await self._store.verify(progress)

    async def aclose(self) -> None:
        """Close the log."""
        await self._store.aclose()
