"""The newest commits, kept in memory for those who follow: bounded in bytes, shared by all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final

from chronicled.events.envelope import Event
from chronicled.events.store import Filter, Page

__all__ = ["RING_BYTES_MAX", "Commit", "Ring"]

RING_BYTES_MAX: Final = 16 << 20
EVENT_BYTES: Final = 900
"""What an event takes beside its payload, roughly."""


class Commit:
    """What one commit brought. A page of it is made once for all followers who want the same."""

    __slots__ = ("_pages", "events", "first", "last", "size")

    def __init__(self, events: tuple[Event, ...]) -> None:
        self.events = events
        self.first = events[0].position
        self.last = events[-1].position
        self.size = sum([memoryview(event.payload).nbytes for event in events]) + EVENT_BYTES * len(events)
        self._pages: dict[Filter, Page] = {}

    def page(self, where: Filter) -> Page:
        """Return the wanted events of the commit, the same object for the same filter."""
        page = self._pages.get(where)
        if page is None:
            events = self.events if where.everything else tuple(filter(where.admits, self.events))
            page = self._pages[where] = Page(events, self.last, at_end=True)
        return page

    def rest(self, after: int, where: Filter) -> Page:
        """Return the wanted events behind `after`, which lies inside the commit."""
        events = self.events[after + 1 - self.first :]
        return Page(tuple(filter(where.admits, events)), self.last, at_end=True)


class Ring:
    """Consecutive commits up to the head; the oldest go when it holds too many bytes, but never the newest."""

    def __init__(self, head: int, size_max: int = RING_BYTES_MAX) -> None:
        self.head = head
        self.size = 0
        self._size_max = size_max
        self._commits: deque[Commit] = deque()
        self._by_first: dict[int, Commit] = {}

    @property
    def first(self) -> int:
        """The first position that it holds; the one behind the head when it holds none."""
        return self._commits[0].first if self._commits else self.head + 1

    def add(self, commit: Commit) -> None:
        """Take in the newest commit."""
        self._commits.append(commit)
        self._by_first[commit.first] = commit
        self.head = commit.last
        self.size += commit.size
        while self.size > self._size_max and len(self._commits) > 1:
            oldest = self._commits.popleft()
            del self._by_first[oldest.first]
            self.size -= oldest.size

    def page(self, after: int, where: Filter) -> Page:
        """Return the page of the commit that holds position `after + 1`, which the ring must hold."""
        commit = self._by_first.get(after + 1)
        if commit is not None:
            return commit.page(where)
        commit = self._commits[bisect_left(self._commits, after + 1, key=lambda commit: commit.last)]
        return commit.rest(after, where)
