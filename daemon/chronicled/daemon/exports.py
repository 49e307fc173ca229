"""Exports of the running daemon: a session in another system's format, read page by page from the log's file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from chronicled.events.errors import Overloaded
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.migrations.vocabulary import Vocabulary

if TYPE_CHECKING:
    from chronicled.migrations.formats.chronicle import Tally, Writer
    from chronicled.storage.exports.log_chronicle import LogChronicle

__all__ = ["Export", "Exports"]


class Export:
    """One export that is under way: it ends at the head of the log when it was opened."""

    def __init__(self, chronicle: LogChronicle, tally: Tally, batches: Iterator[bytes]) -> None:
        self._chronicle = chronicle
        self._tally = tally
        self._batches = batches

    @property
    def head(self) -> int:
        """Position up to which it goes."""
        return self._chronicle.head

    async def batches(self) -> AsyncGenerator[bytes]:
        """Yield what it consists of, some 256 KiB at a time; each is made when it is asked for, in a thread.

        Raises:
            LogCorrupt, StoreFailed: the file cannot be read any more.
        """
        while (batch := await to_thread.run_sync(next, self._batches, None)) is not None:
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
        stack = ExitStack()
        try:
            yield await to_thread.run_sync(self._begin, stack, tenant, session, after, format, write)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(stack.close)
            self._count -= 1

    def _begin(self, stack: ExitStack, tenant: str, session: str, after: int, format: str, write: Writer) -> Export:
        from chronicled.migrations.formats.chronicle import Tally
        from chronicled.storage.exports.log_chronicle import LogChronicle
        from chronicled.storage.exports.target import batches

        words = self._vocabulary
        chronicle = stack.enter_context(
            LogChronicle(self._data, tenant, session, words.registry, words.chain, after, self._rules)
        )
        tally = Tally(format, session, chronicle.head)
        return Export(chronicle, tally, batches(write(chronicle, tally)))
