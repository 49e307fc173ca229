"""Descriptors that threads read and write: none is closed, and its number given to another file, while one is at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from anyio import CancelScope, to_thread

__all__ = ["Descriptors"]

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


class Descriptors:
    """Descriptors of one owner."""

    def __init__(self) -> None:
        self._busy = 0
        self._closing: list[int] = []

    async def use(
        self, work: Callable[Arguments, Returned], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Returned:
        """Do the work in a thread, to its end even when cancelled; what is closed meanwhile is closed after it."""
        done: list[Returned] = []
        self._busy += 1
        try:
            with CancelScope(shield=True):
                done.append(await to_thread.run_sync(lambda: work(*arguments, **named)))
        finally:
            self._busy -= 1
            if not self._busy:
                while self._closing:
                    os.close(self._closing.pop())
        return done[0]

    def close(self, descriptor: int) -> None:
        """Close a descriptor, as soon as no thread is at work."""
        if self._busy:
            self._closing.append(descriptor)
        else:
            os.close(descriptor)
