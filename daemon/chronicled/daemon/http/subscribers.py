"""How many follow at one time: event streams and outputs together."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio

from chronicled.events.errors import Overloaded, Unavailable

__all__ = ["Subscribers"]


class Subscribers:
    """Counts those who follow.

    Args:
        count_max: Most at one time.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = False

    @property
    def count(self) -> int:
        """How many follow now."""
        return len(self._scopes)

    @contextmanager
    def one(self) -> Generator[None]:
        """Be one of them; the block ends early, without an error, when the daemon stops.

        Raises:
            Overloaded: there are too many already.
            Unavailable: the daemon stops.
        """
        if self._closed:
            raise Unavailable("The daemon is stopping; come back with the same cursor or offset.")
        if self.count >= self._count_max:
            raise Overloaded(f"{self._count_max} follow already; read pages, or come back in a moment.")
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def close(self) -> None:
        """End them all and admit no more: their readers come back with a cursor or an offset."""
        self._closed = True
        for scope in tuple(self._scopes):
            scope.cancel()
