"""The lanes of a generation: whose turn it is in each, and what its executors share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from chronicled.runtimes.action_server.executor import LaneState

__all__ = ["LANES_MAX", "Lane", "LaneTable"]

LANES_MAX: Final = 128
"""Lanes that may be busy or hold a live shell at once; idle shells make room."""
LANES_KEPT_MAX: Final = 1024
"""Idle lanes that are remembered; the oldest are forgotten that hold no state."""
_LOOKED_AT_MAX: Final = 256


class Lane:
    """One lane."""

    __slots__ = ("state", "turn", "users")

    def __init__(self, state: LaneState) -> None:
        self.state = state
        self.turn = asyncio.Lock()
        self.users = 0
        """Actions that run in it or wait for its turn."""


class LaneTable:
    """Lanes by name, the one used last at the end.

    Args:
        working_directory: Where each lane starts.
    """

    def __init__(self, working_directory: str) -> None:
        self.holds_state: Callable[[str], bool] = lambda _: False
        """Whether an executor keeps something for an idle lane, which must not be forgotten then."""
        self._working_directory = working_directory
        self._lanes: dict[str, Lane] = {}

    def __len__(self) -> int:
        return len(self._lanes)

    def enter(self, name: str) -> Lane:
        """Return the lane, for one action more."""
        lane = self._lanes.pop(name, None)
        if lane is None:
            lane = Lane(LaneState(name, self._working_directory))
        self._lanes[name] = lane
        lane.users += 1
        return lane

    def leave(self, lane: Lane) -> None:
        """The action is over."""
        lane.users -= 1
        if len(self._lanes) <= LANES_KEPT_MAX:
            return
        oldest = [found for found, _ in zip(self._lanes.items(), range(_LOOKED_AT_MAX), strict=False)]
        for name, each in oldest:
            if each.users == 0 and not self.holds_state(name):
                del self._lanes[name]
                return
