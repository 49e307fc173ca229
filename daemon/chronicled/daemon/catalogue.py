"""The catalogue: the fold of every session, kept current by the log's commits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from chronicled.events.envelope import Event
from chronicled.events.lanes import SessionFold
from chronicled.events.limits import PAGE_EVENTS_MAX
from chronicled.events.registry import Registry
from chronicled.events.store import EventStore
from chronicled.events.worker_log import SessionKey

__all__ = ["Catalogue"]


class Catalogue:
    """Every session's fold. `committed` is the log's listener.

    Args:
        registry: Tells what runs and what ends it.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._folds: dict[tuple[str, str], SessionFold] = {}

    @property
    def open_actions(self) -> int:
        """Runnable actions of all sessions that have not ended."""
        return sum(len(fold) for fold in self._folds.values())

    async def load(self, store: EventStore) -> None:
        """Fold everything that is in the log."""
        after, at_end = 0, False
        while not at_end:
            page = await store.read(after, PAGE_EVENTS_MAX)
            self.committed(page.events)
            after, at_end = page.next, page.at_end

    def committed(self, events: Sequence[Event]) -> None:
        """Fold one commit."""
        for event in events:
            key = (event.tenant, event.session)
            fold = self._folds.get(key)
            if fold is None:
                fold = self._folds[key] = SessionFold(SessionKey(*key), self._registry)
            fold.apply(event)

    def find(self, tenant: str, session: str) -> SessionFold | None:
        """Return the session's fold, or None when there is no such session."""
        return self._folds.get((tenant, session))

    def page(self, tenant: str, after: int, limit: int) -> tuple[list[SessionFold], bool]:
        """Return sessions created behind position `after`, and whether these are all."""
        wanted = (
            fold
            for fold in self._folds.values()
            if fold.key.tenant == tenant and fold.created is not None and fold.created.position > after
        )
        found = list(islice(wanted, limit + 1))
        return found[:limit], len(found) <= limit
