"""What the work of one file action knows beside its arguments; it is done in a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
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
    """

    def __init__(self, directory: str, environment: dict[bytes, bytes]) -> None:
        self.directory = directory
        self.environment = environment
        self._stop = threading.Event()

    def resolve(self, path: str) -> str:
        """Return the path as seen from where the lane is."""
        return os.path.join(self.directory, path)

    def stop(self) -> None:
        """Have the work end soon. From any thread."""
        self._stop.set()

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
