"""Exports of the running daemon: a session in another system's format, read page by page from the log's file."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from chronicled.events.errors import Overloaded
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.migrations.vocabulary import Vocabulary

if TYPE_CHECKING:
    from chronicled.migrations.formats.chronicle import Writer
    from chronicled.storage.exports.log_chronicle import LogChronicle

__all__ = ["Export", "Exports"]


class _Held:
    """What an export holds, in one thread at a time: it may have to be let go of while a batch is still made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chronicle: LogChronicle | None = None
        self._batches: Iterator[bytes] = iter(())
        self._closed = False

    def take(self, chronicle: LogChronicle, batches: Iterator[bytes]) -> None:
        """Hold these, unless it is over already."""
        with self._lock:
            if self._closed:
                chronicle.__exit__(None, None, None)
            else:
                self._chronicle, self._batches = chronicle, batches

    def following(self) -> bytes | None:
        """Return the next batch, None behind the last."""
        with self._lock:
            return None if self._closed else next(self._batches, None)

    def close(self) -> None:
        """Let go of all of it, once what is under way has ended."""
        with self._lock:
            self._closed = True
            if self._chronicle is not None:
                self._chronicle.__exit__(None, None, None)


class Export:
    """One export that is under way: it ends at the head of the log when it was opened."""

    def __init__(self, head: int, held: _Held) -> None:
        self.head = head
        """Position up to which it goes."""
        self._held = held

    async def batches(self) -> AsyncGenerator[bytes]:
        """Yield what it consists of, some 256 KiB at a time; each is made when it is asked for, in a thread.

        Raises:
            LogCorrupt: the file cannot be read any more.
            InvalidRequest: the session has not what was asked for; before the first one.
        """
        while (batch := await to_thread.run_sync(self._held.following)) is not None:
            yield batch


class Exports:
    """Opens exports. What one holds meanwhile is a connection that reads, and one page of events; no thread.

    Args:
        data: The data directory.
        vocabulary: What can be read.
        rules: What units have replaced in payloads of their kinds.
        exports_max: Most exports at one time.
    """

    def __init__(self, data: Path, vocabulary: Vocabulary, rules: RuleRedaction, exports_max: int) -> None:
        self._data = data
        self._vocabulary = vocabulary
        self._rules = rules
        self._exports_max = exports_max
        self._count = 0

    @property
    def count(self) -> int:
        """Exports under way."""
        return self._count

    @asynccontextmanager
    async def open(self, tenant: str, session: str, after: int, format: str, write: Writer) -> AsyncGenerator[Export]:
        """Open the export of a session; leaving it lets go of all that it holds, also in the middle.

        Secrets are replaced once more by what is registered now, as in every export.

        Raises:
            Overloaded: there are as many as may be.
            SessionNotFound: the log has no such session.
            InvalidCursor: `after` lies beyond the head.
            SecretsUnavailable: the session's secrets cannot be read, so nothing of it is shown.
        """
        if self._count >= self._exports_max:
            raise Overloaded(f"{self._exports_max} exports are under way already; retry in a moment.")
        self._count += 1
        held = _Held()
        try:
            yield await to_thread.run_sync(self._begin, held, tenant, session, after, format, write)
        finally:
            # A handler whose client is gone is cancelled, here too: what was begun in a thread ends there by itself.
            try:
                await to_thread.run_sync(held.close)
            finally:
                self._count -= 1

    def _begin(self, held: _Held, tenant: str, session: str, after: int, format: str, write: Writer) -> Export:
        from chronicled.migrations.formats.chronicle import Tally
        from chronicled.storage.exports.log_chronicle import LogChronicle
        from chronicled.storage.exports.target import batches

        words = self._vocabulary
        chronicle = LogChronicle(self._data, tenant, session, words.registry, words.chain, after, self._rules)
        held.take(chronicle, batches(write(chronicle, Tally(format, session, chronicle.head))))
        return Export(chronicle.head, held)
