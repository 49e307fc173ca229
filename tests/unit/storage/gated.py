"""A writer over a medium whose writes wait until a test lets them through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chronicled.events.clock import Clock, SystemClock
from chronicled.events.ids import Randomness, SystemRandomness
from chronicled.events.store import Append, Appended
from chronicled.storage.medium import Batch, LogState
from chronicled.storage.memory import MemoryMedium
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.tree import Frontier
from chronicled.storage.writer import HALVED_MIN, LogWriter

MAKER = DraftMaker()


class GatedMedium(MemoryMedium):
    """A medium whose writes wait until they are let through, or made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = False
        self._batches: asyncio.Queue[Batch] = asyncio.Queue()
        self._outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()

    def let_through(self, failure: Exception | None = None) -> None:
        """End the next write, or the one that waits."""
        self._outcomes.put_nowait(failure)

    async def write(self, batch: Batch) -> None:
        """Wait, then write."""
        if self.gated:
            self._batches.put_nowait(batch)
            failure = await self._outcomes.get()
            if failure is not None:
                raise failure
        await super().write(batch)

    async def next_write(self) -> Batch:
        """Return the next batch that is given to be written."""
        async with asyncio.timeout(60):
            return await self._batches.get()


@asynccontextmanager
async def writing(
    clock: Clock | None = None, randomness: Randomness | None = None
) -> AsyncGenerator[tuple[LogWriter, GatedMedium]]:
    """Give a writer with the session `s`, whose medium waits from now on."""
    medium = GatedMedium()
    log = LogState(0, 0, Frontier(), {}, 0, {}, 0, 0)
    writer = LogWriter(medium, log, clock or SystemClock(), randomness or SystemRandomness())
    writer.start()
    await writer.append(MAKER.create("s"))
    medium.gated = True
    try:
        yield writer, medium
    finally:
        medium.gated = False
        medium.let_through()
        await writer.aclose()


def append(writer: LogWriter, request: Append) -> asyncio.Task[Appended]:
    """Begin to append."""
    return asyncio.create_task(writer.append(request))


def many(writer: LogWriter, count: int = 2 * HALVED_MIN) -> list[asyncio.Task[Appended]]:
    """Begin to append so much at once that it makes two batches."""
    return [append(writer, Append((MAKER.action("s"),))) for _ in range(count)]
