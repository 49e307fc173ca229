"""What the work of one file action knows beside its arguments; it is done in a thread."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

__all__ = ["Stopped", "Work"]

T = TypeVar("T")


class Stopped(Exception):
    """Leaves the work of an action that is to end."""


class Work:
    """One action's work.

    Args:
        directory: Where relative paths begin.
        environment: The environment of the sandbox's commands, complete.
        content: Descriptor of the content that came with the action, if one did.
    """

    def __init__(self, directory: str, environment: dict[bytes, bytes], content: int | None = None) -> None:
        self.directory = directory
        self.environment = environment
        self.content = content
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._at_stop: Callable[[], None] | None = None

    def resolve(self, path: str) -> str:
        """Return the path as seen from where the lane is."""
        return self.directory if path == "." else os.path.join(self.directory, path)

    def stop(self) -> None:
        """Have the work end soon. From any thread."""
        with self._guard:
            self._stop.set()
            if self._at_stop is not None:
                self._at_stop()

    @contextlib.contextmanager
    def at_stop(self, act: Callable[[], None]) -> Generator[None]:
        """Have something done, once and at once, if the work is to end while the block lasts; never after it."""
        with self._guard:
            self._at_stop = act
            if self._stop.is_set():
                act()
        try:
            yield
        finally:
            with self._guard:
                self._at_stop = None

    @property
    def stopped(self) -> bool:
        """Whether it is to end."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise if the work is to end.

        Raises:
            Stopped: it is.
        """
        if self._stop.is_set():
            raise Stopped

    def until_stopped(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, looking before each whether the work is to end.

        Raises:
            Stopped: it is.
        """
        for item in items:
            self.check()
            yield item
