"""News: what a runtime has to tell of a sandbox at a time when nobody asks it, for the session's stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import msgspec
import structlog

__all__ = ["News", "Take"]

Take = Callable[[str, str, msgspec.Struct], Awaitable[bool]]
"""Appends a lifecycle event, of that kind and payload, to the stream of the session that has that sandbox; returns
whether there is one."""

_log = structlog.get_logger("chronicled.runtimes")


class News:
    """Carries news of sandboxes from a runtime to the worker that keeps their sessions' streams.

    A runtime is made before its worker is. What nobody takes goes to the worker's log; nothing is kept for later.
    """

    def __init__(self) -> None:
        self._take: Take | None = None

    @contextmanager
    def listen(self, take: Take) -> Generator[None]:
        """Give all news to `take` until left."""
        self._take = take
        try:
            yield
        finally:
            self._take = None

    async def tell(self, sandbox: str, kind: str, payload: msgspec.Struct) -> None:
        """Have an event appended; durable on return.

        Raises:
            ChronicledError: it could not be appended.
        """
        if self._take is None or not await self._take(sandbox, kind, payload):
            _log.warning("news_unheard", sandbox=sandbox, kind=kind, payload=msgspec.to_builtins(payload))
