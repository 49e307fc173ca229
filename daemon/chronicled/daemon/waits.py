"""Waiting for an action's end: pushed by the commit that holds it, never polled."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from chronicled.events.envelope import OBSERVATION, Event
from chronicled.events.errors import Overloaded
from chronicled.events.registry import Registry

__all__ = ["Wait", "Waits"]

Key = tuple[str, str]


class Wait:
    """One wait for the terminal observations of some actions."""

    __slots__ = ("_done", "_missing", "found")

    def __init__(self, missing: set[Key]) -> None:
        self.found: dict[str, Event] = {}
        self._missing = missing
        self._done = asyncio.Event()

    def feed(self, event: Event) -> None:
        """Take a terminal observation."""
        assert event.cause is not None
        self.found[event.cause] = event
        self._missing.discard((event.tenant, event.cause))
        if not self._missing:
            self._done.set()

    def drop(self, tenant: str, action: str) -> None:
        """Stop waiting for one action: it will have no terminal observation."""
        self._missing.discard((tenant, action))
        if not self._missing:
            self._done.set()

    def release(self) -> None:
        """Stop waiting for all that is missing."""
        self._done.set()

    async def ended(self, seconds: float) -> bool:
        """Return True once every action has ended, False after `seconds` or a release. Cancellation: safe."""
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            return False
        return not self._missing


class Waits:
    """Everybody who waits; `committed` is the log's listener.

    Args:
        registry: Tells which observations are terminal.
        waits_max: Most waits at one time.
    """

    def __init__(self, registry: Registry, waits_max: int) -> None:
        self._terminal = frozenset(spec.kind for spec in registry if spec.category == OBSERVATION and spec.terminal)
        self._waits_max = waits_max
        self._by_action: dict[Key, list[Wait]] = {}
        self.count = 0
        self._released = False

    @contextmanager
    def open(self, tenant: str, actions: Sequence[str]) -> Generator[Wait]:
        """Wait from now on: open it before the action can end, and no end is missed.

        Raises:
            Overloaded: too many wait already.
        """
        if self.count >= self._waits_max:
            raise Overloaded(
                f"{self._waits_max} requests wait already; submit without `Prefer: wait` and follow the events."
            )
        keys = {(tenant, action) for action in actions}
        wait = Wait(set(keys))
        self.count += 1
        for key in keys:
            self._by_action.setdefault(key, []).append(wait)
        if self._released:
            wait.release()
        try:
            yield wait
        finally:
            self.count -= 1
            for key in keys:
                waiting = self._by_action[key]
                waiting.remove(wait)
                if not waiting:
                    del self._by_action[key]

    def release(self) -> None:
        """Let everybody go on with what is known, from now on: the daemon stops."""
        self._released = True
        for waiting in self._by_action.values():
            for wait in waiting:
                wait.release()

    def is_terminal(self, event: Event) -> bool:
        """Tell whether the event ends its action."""
        return event.category == OBSERVATION and event.kind in self._terminal and event.cause is not None

    def committed(self, events: Sequence[Event]) -> None:
        """Wake those whose action has ended with this commit."""
        if not self._by_action:
            return
        for event in events:
            if event.category == OBSERVATION and event.cause is not None and event.kind in self._terminal:
                for wait in self._by_action.get((event.tenant, event.cause), ()):
                    wait.feed(event)
