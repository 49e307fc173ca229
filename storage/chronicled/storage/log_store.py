"""What every event store of ours has in common: the writer, and what it knows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from chronicled.events.errors import InvalidCursor, InvalidRequest, StoreFailed
from chronicled.events.limits import PAGE_EVENTS_MAX
from chronicled.events.store import Append, Appended, Listener
from chronicled.storage.writer import LogWriter

__all__ = ["LogStore"]


class LogStore:
    """The part of an event store that is the same for every medium; see `EventStore` for what is guaranteed.

    An async context manager: leaving it closes the store.
    """

    def __init__(self, writer: LogWriter, incarnation: str) -> None:
        self._writer = writer
        self._incarnation = incarnation

    @property
    def incarnation(self) -> str:
        """The log's incarnation."""
        return self._incarnation

    @property
    def head(self) -> int:
        """Position of the last committed event."""
        return self._writer.log.head

    @property
    def root(self) -> bytes:
        """RFC 6962 tree hash over the leaves of positions 1 to `head`."""
        return self._writer.log.frontier.root()

    def append(self, request: Append) -> Coroutine[Any, Any, Appended]:
        """Append; see `EventStore.append`. The writer's own coroutine: one frame less for each append.

        Raises:
            InvalidRequest: the request cannot be written whatever the log holds.
        """
        return self._writer.append(request)

    def on_failure(self, listener: Callable[[StoreFailed], None]) -> None:
        """Have `listener` called if the store fails."""
        self._writer.on_failure(listener)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called after each commit; returns a function that ends it."""
        return self._writer.listen(listener)

    async def aclose(self) -> None:
        """Commit what waits, then close. Later calls raise `StoreClosed`."""
        await self._writer.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _checked(self, after: int, limit: int) -> int:
        """Return the limit to use.

        Raises:
            StoreClosed, StoreFailed: the store cannot be used.
            InvalidCursor: `after` is no place in this log.
            InvalidRequest: the limit is below 1.
        """
        self._writer.check()
        if not 0 <= after <= self.head:
            raise InvalidCursor(f"There is no position {after}: the log's head is {self.head}.")
        if limit < 1:
            raise InvalidRequest(f"A page has at least 1 event, not {limit}.")
        return min(limit, PAGE_EVENTS_MAX)
