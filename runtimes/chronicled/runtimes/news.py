"""News: what a runtime has to tell of a sandbox at a time when nobody asks it, for the session's stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import msgspec
import structlog

__all__ = ["News", "Take"]

Take = Callable[[str, msgspec.Struct], Awaitable[None]]
"""Appends a lifecycle event of that kind and payload to the session's stream."""

_log = structlog.get_logger("chronicled.runtimes")


class News:
    """Carries news of sandboxes to whoever keeps their sessions' streams. Nothing is kept for later."""

    def __init__(self) -> None:
        self._takers: dict[str, Take] = {}

    @contextmanager
    def listen(self, sandbox: str, take: Take) -> Generator[None]:
        """Give the sandbox's news to `take` until left."""
        self._takers[sandbox] = take
        try:
            yield
        finally:
            if self._takers.get(sandbox) is take:
                del self._takers[sandbox]

    async def tell(self, sandbox: str, kind: str, payload: msgspec.Struct) -> None:
        """Have an event appended; durable on return. With nobody listening it only goes to the worker's log.

        Raises:
            ChronicledError: it could not be appended.
        """
        take = self._takers.get(sandbox)
        if take is None:
            _log.warning("news_unheard", sandbox=sandbox, kind=kind, payload=msgspec.to_builtins(payload))
            return
        await take(kind, payload)
