"""What a generation has executed, so that nothing is executed twice: everything, in a few bytes each."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections import OrderedDict
from typing import Final

__all__ = ["DigestSet", "SettledActions"]

RECENT_MAX: Final = 1024
"""Settled actions whose place in the spool is still known, so that they can be answered with their result."""
ENTRIES_MAX: Final = 1 << 20
"""Lanes, and actions without a position, that a generation can have: 16 MiB."""


class DigestSet:
    """Names, 8 bytes each: those of their digests. Two names of a million are the same once in ten million sets."""

    def __init__(self) -> None:
        self._keys = array("Q")

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def find(self, name: str) -> int | None:
        """Return the name's index among all; it changes when others come and go."""
        key = _digest(name)
        at = bisect_left(self._keys, key)
        return at if at < len(self._keys) and self._keys[at] == key else None

    def add(self, name: str) -> tuple[int, bool]:
        """Add a name; return its index, and whether it is new."""
        key = _digest(name)
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            return at, False
        self._keys.insert(at, key)
        return at, True

    def discard(self, name: str) -> bool:
        """Remove a name; return whether it was there."""
        at = self.find(name)
        if at is not None:
            del self._keys[at]
        return at is not None


class SettledActions:
    """Settled actions of one generation.

    A lane's actions come in the order of their positions, so the highest settled position of a lane stands for all
    before it: 16 bytes a lane. An action without a position is known by its id: 8 bytes of its digest.
    """

    def __init__(self) -> None:
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._lanes = DigestSet()
        self._marks = array("Q")
        self._ids = DigestSet()

    @property
    def entries(self) -> int:
        """How much it holds, whatever the number of actions."""
        return len(self._lanes) + len(self._ids)

    @property
    def full(self) -> bool:
        """Whether no more can be remembered, so that no more may be executed."""
        return len(self._lanes) >= ENTRIES_MAX or len(self._ids) >= ENTRIES_MAX

    def add(self, action: str, lane: str, position: int, offset: int) -> None:
        """Note a settled action; `offset` is its result's place in the spool, -1 for none."""
        self._recent[action] = offset
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        if position <= 0:
            self._ids.add(action)
            return
        at, new = self._lanes.add(lane)
        if new:
            self._marks.insert(at, position)
        elif self._marks[at] < position:
            self._marks[at] = position

    def knows(self, action: str, lane: str, position: int) -> bool:
        """Return whether the action was settled, or comes from before one of its lane that was."""
        if action in self._recent:
            return True
        if position <= 0:
            return action in self._ids
        at = self._lanes.find(lane)
        return at is not None and position <= self._marks[at]

    def offset(self, action: str) -> int:
        """Return where a settled action's result is in the spool; -1 where that is not known."""
        return self._recent.get(action, -1)

    def forget_offsets(self) -> None:
        """Forget the places of results: the spool is another now."""
        self._recent = OrderedDict.fromkeys(self._recent, -1)


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
