"""The pump: takes an action's raw output from its spool, redacts it, keeps it with digest, excerpt and time index."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread

from chronicled.events import faultpoint
from chronicled.events.clock import Clock
from chronicled.events.errors import StoreFailed
from chronicled.events.kinds.observations import Progress
from chronicled.events.limits import PROGRESS_BYTES_MAX, PROGRESS_COUNT_MAX, PROGRESS_INTERVAL_SECONDS
from chronicled.events.redaction import StreamRedactor
from chronicled.runtimes.output.live import LiveOutput
from chronicled.runtimes.output.summary import EXCERPT_BYTES, glimpse

__all__ = ["Pump"]

STEP_BYTES: Final = 256 << 10
"""One read, one redaction, one hash."""
HOP_BYTES: Final = 4 << 20
"""Most that one visit to a thread moves."""
INLINE_BYTES: Final = 16 << 10
"""Up to so much is moved on the event loop: a thread costs more."""
INDEX_MAX: Final = 256
RETRY_SECONDS_MAX: Final = 2.0
WAITS_MAX: Final = 64
"""How often it is told that the action waits for input, or no longer does, without anybody having typed."""
PROGRESS_STEADY: Final = 16
"""From this many glimpses on they come ever more rarely, so that 64 of them span hours."""


class Pump:
    """Moves one action's output from the spool to its `LiveOutput`, always from the spool's start.

    After a crash of the worker a new pump reads the same spool again and arrives at the same bytes and digest. Nothing
    that the action prints is lost while no pump runs: the action server writes the spool.

    Args:
        spool: Path of the spool; read only.
        live: Where the redacted bytes go.
        path: The file that `live` uses when it outgrows memory.
        redactor: Takes secrets out; one per pump.
        bytes_max: Most raw bytes that are read.
        clock: Measures the time index and the distance of glimpses.
        limiter: Bounds the threads that all pumps use together.
        progress: Publishes a glimpse; must not raise.
    """

    def __init__(
        self,
        spool: str,
        live: LiveOutput,
        path: str,
        redactor: StreamRedactor,
        bytes_max: int,
        clock: Clock,
        limiter: CapacityLimiter,
        progress: Callable[[Progress], Awaitable[None]],
    ) -> None:
        self.live = live
        self.path = path
        self.head = bytearray()
        self.tail = b""
        self.index: list[tuple[int, int]] = []
        self.finished = False
        self._spool = spool
        self._redactor = redactor
        self._bytes_max = bytes_max
        self._clock = clock
        self._limiter = limiter
        self._progress = progress
        self._descriptor = -1
        self._taken = 0
        self._wanted = 0
        self._pending = b""
        self._hash = hashlib.sha256()
        self._began = clock.monotonic()
        self._lock = anyio.Lock()
        self._noticed = anyio.Event()
        self._shown = 0
        self._glimpses = 0
        self._glimpsed_at = self._began
        self._awaits_input: bool = False
        self._told_awaits_input: bool = False
        self._waits_left = WAITS_MAX

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the redacted bytes so far."""
        return self._hash.hexdigest()

    def notice(self, size: int) -> None:
        """Learn that the spool has `size` bytes; an untrusted number, checked against the file when it is read."""
        size = min(size, self._bytes_max)
        if size > self._wanted:
            self._wanted = size
            self._noticed.set()

    def await_input(self, waiting: bool) -> None:
        """Learn that the action waits for somebody to type, or no longer does; a glimpse tells it soon."""
        self._awaits_input = waiting
        self._noticed.set()

    def note_input(self) -> None:
        """Learn that somebody has typed: the log says so, and if the action waits for more, that is told again."""
        self._awaits_input = self._told_awaits_input = False
        self._waits_left = min(self._waits_left + 2, WAITS_MAX)

    async def run(self) -> None:
        """Follow the notices until `finish`.

        Raises:
            StoreFailed: the output cannot be written, and not for want of room.

        Cancellation: safe; a new pump starts over from the spool.
        """
        while not self.finished:
            if self._taken >= self._wanted:
                with anyio.move_on_after(self._until_glimpse()):
                    await self._noticed.wait()
            self._noticed = anyio.Event()
            async with self._lock:
                if not self.finished:
                    # One step at a time, so that an action that never stops printing is glimpsed too.
                    await self._advance(steps_max=1)
                    await self._glimpse()

    async def finish(self, size: int | None) -> None:
        """Take everything up to `size` (None: all that is there), close the redactor, and stop `run`.

        Raises:
            StoreFailed: as `run`.
        """
        async with self._lock:
            if size is None:
                try:
                    size = os.stat(self._spool).st_size
                except FileNotFoundError:
                    size = 0
            self._wanted = max(self._wanted, min(size, self._bytes_max))
            await self._advance()
            self._pending = self._redactor.finish()
            await self._advance()
            self.stop()
            self.live.announce()

    def stop(self) -> None:
        """Have `run` end, and close the spool; what was not taken stays in the spool. Idempotent."""
        self.finished = True
        self._noticed.set()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _advance(self, steps_max: int | None = None) -> None:
        wait, steps = 0.05, 0
        while (self._taken < self._wanted or self._pending) and steps != steps_max:
            steps += 1
            before, start = self._taken, self.live.size
            if self._wanted - self._taken <= INLINE_BYTES and self.live.path is None:
                stored = self._move(INLINE_BYTES)
            else:
                # Not abandoned on cancel: the thread works on this object, the next pump on another.
                stored = await to_thread.run_sync(self._move, HOP_BYTES, limiter=self._limiter)
            if self.live.size > start:
                self._note_time(start)
                self.live.announce()
                faultpoint.reached("mid_output")
            if not stored:
                await anyio.sleep(wait)
                wait = min(2 * wait, RETRY_SECONDS_MAX)
            elif self._taken == before:
                return  # the spool holds less than was said

    def _move(self, bytes_max: int) -> bool:
        # False: there is no room for what is pending.
        if self._descriptor < 0:
            try:
                self._descriptor = os.open(self._spool, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                self._wanted = self._taken
                return True
        end = min(self._wanted, self._taken + bytes_max)
        while True:
            if self._pending and not self._store():
                return False
            if self._taken >= end:
                return True
            data = os.pread(self._descriptor, min(STEP_BYTES, end - self._taken), self._taken)
            if not data:
                self._wanted = self._taken
                return True
            self._taken += len(data)
            self._pending = self._redactor.feed(data)

    def _store(self) -> bool:
        data = self._pending
        try:
            self.live.append(data, self.path)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return False
            raise StoreFailed(f"The output cannot be written: {error}.") from error
        self._pending = b""
        self._hash.update(data)
        if len(self.head) < EXCERPT_BYTES:
            self.head += data[: EXCERPT_BYTES - len(self.head)]
        self.tail = (self.tail + data)[-EXCERPT_BYTES:] if len(data) < EXCERPT_BYTES else data[-EXCERPT_BYTES:]
        return True

    def _note_time(self, offset: int) -> None:
        self.index.append((offset, int((self._clock.monotonic() - self._began) * 1000)))
        if len(self.index) > INDEX_MAX:
            self.index = self.index[::2]

    def _until_glimpse(self) -> float | None:
        if self._awaits_input != self._told_awaits_input and self._waits_left > 0:
            return 0.0
        if self.live.size == self._shown or self._glimpses >= PROGRESS_COUNT_MAX:
            return None
        interval = PROGRESS_INTERVAL_SECONDS * 1.2 ** max(0, self._glimpses - PROGRESS_STEADY)
        return max(0.0, self._glimpsed_at + interval - self._clock.monotonic())

    async def _glimpse(self) -> None:
        wait = self._until_glimpse()
        if wait is None or wait > 0:
            return
        new = min(self.live.size - self._shown, PROGRESS_BYTES_MAX)
        text = glimpse(self.tail[-new:], PROGRESS_BYTES_MAX) if new else ""
        if self._awaits_input != self._told_awaits_input:
            self._waits_left -= 1
            self._told_awaits_input = self._awaits_input
            # It comes beside the sparse ones, so that an action which asks and prints a lot is still glimpsed.
            self._glimpses -= 1
        self._shown = self.live.size
        self._glimpses += 1
        self._glimpsed_at = self._clock.monotonic()
        # The lock is held, so that no glimpse can follow the terminal observation.
        await self._progress(Progress(output=text, output_bytes=self._shown, needs_input=self._told_awaits_input))
