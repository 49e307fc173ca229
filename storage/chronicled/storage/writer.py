"""The one writer of a log: group commit over all who append (D2), the same for every medium."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from chronicled.events import faultpoint
from chronicled.events.clock import Clock
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, Overloaded, StorageFull, StoreClosed, StoreFailed
from chronicled.events.ids import Randomness
from chronicled.events.limits import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX
from chronicled.events.store import Append, Appended, Listener
from chronicled.storage.assembly import Assembly
from chronicled.storage.entry import ActionKey, Entry, SessionKey
from chronicled.storage.medium import Collision, Found, LogState, Medium, Wanted
from chronicled.storage.record import SessionState

__all__ = ["CHECKPOINT_EVENTS", "SWITCH_SECONDS", "LogWriter"]

CHECKPOINT_EVENTS: Final = 4096
"""Events between two checkpoints of the tree: a start folds at most so many leaves, and a batch."""
SWITCH_SECONDS: Final = 50e-6
"""For `sys.setswitchinterval`, by the process that has the log: how long a thread waits for the loop to yield the
interpreter. At Python's 5 ms, the thread that writes the log begins and ends its work only when the loop has nothing to
do: a third fewer appends a second."""
STATES_MAX: Final = 65_536
"""Sessions whose state is kept in memory; the others are looked up when they are written to again."""
UNENDED_MAX: Final = 65_536
"""Events that are remembered as not ended; past them, all are forgotten and looked up again."""
HALVED_MIN: Final = 32
"""Requests waiting from which a first batch leaves half of them to the next one."""
_NOTHING: Final = Found()


class Judged(msgspec.Struct):
    """A batch with what came of each request in it, told once the batch is durable."""

    entries: list[Entry]
    assembly: Assembly
    written: list[tuple[Entry, Appended | slice]] = []
    refused: list[tuple[Entry, ChronicledError]] = []


class Flight(NamedTuple):
    """A batch that is being written."""

    judged: Judged
    writing: asyncio.Future[None]

    @property
    def entries(self) -> list[Entry]:
        """The requests in it."""
        return self.judged.entries


class LogWriter:
    """Takes what gathered while the last commit ran, judges it, writes it in one commit, tells listeners, then acks.

    The next batch is judged while the last is being written: the thread that waits for the disk leaves the loop free.
    No timer: a lone append is committed at once, and under load a batch is whatever came meanwhile, up to 512 events or
    1 MiB. At most 8192 events or 16 MiB wait; more are refused. After a failed write or sync nothing is acked any more.
    """

    def __init__(
        self, medium: Medium, log: LogState, clock: Clock, randomness: Randomness, *, full: bool = False
    ) -> None:
        self.log = log
        """Where the log stands on the medium."""
        self._ahead = log.copy()
        """Where it will stand once the batch that is being written is durable: the next one is judged on that."""
        self._medium = medium
        self._clock = clock
        self._randomness = randomness
        self._states: dict[SessionKey, SessionState] = {}
        self._unended: set[ActionKey] = set()
        """Events of late that have no terminal observation: an end of theirs needs no look-up."""
        self._queue: deque[Entry] = deque()
        self._queue_events = 0
        self._queue_bytes = 0
        self._listeners: list[Listener] = []
        self._failure_listeners: list[Callable[[StoreFailed], None]] = []
        self._idle: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._failure: str | None = None
        self._full = full

    @property
    def failed(self) -> bool:
        """Whether a write or sync has failed: nothing may be written any more."""
        return self._failure is not None

    def start(self) -> None:
        """Begin to write; `aclose` ends it."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name="log-writer")

    def check(self) -> None:
        """Return if the log can be used.

        Raises:
            StoreClosed: it is closed, or closes.
            StoreFailed: a write or sync has failed.
        """
        if self._failure is not None:
            raise StoreFailed(self._failure)
        if self._closing:
            raise StoreClosed("The log is closed; nothing was written.")

    async def append(self, request: Append) -> Appended:
        """Append; see `EventStore.append`."""
        if self._closing or self._failure is not None:
            self.check()
        entry = Entry(request, asyncio.Future(loop=self._loop))
        events = self._queue_events + len(request.drafts)
        size = self._queue_bytes + entry.size
        if self._queue and (events > QUEUE_EVENTS_MAX or size > QUEUE_BYTES_MAX):
            raise Overloaded(f"{self._queue_events} events wait for a commit already; retry later.")
        self._queue_events = events
        self._queue_bytes = size
        self._queue.append(entry)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return await entry.future

    def on_failure(self, listener: Callable[[StoreFailed], None]) -> None:
        """Have `listener` called once if nothing can be written any more."""
        self._failure_listeners.append(listener)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called after each commit; returns a function that ends it."""
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return end

    async def aclose(self) -> None:
        """Commit what waits, then end. Nothing can be appended from the call on."""
        self._closing = True
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        flying: Flight | None = None
        try:
            while True:
                if self._queue:
                    entries = self._take(whole=flying is not None)
                    if flying is None and not self._queue:
                        # Few: a task of its own would cost them more than it brings.
                        await self._commit(entries)
                        continue
                    flying = await self._next(entries, flying)
                    # Whoever was acked just now may append again at once: into the next batch, not the one after it.
                    await asyncio.sleep(0)
                elif flying is not None:
                    landing, flying = flying, None
                    await self._land(landing)
                elif self._closing:
                    return
                else:
                    self._idle = asyncio.get_running_loop().create_future()
                    await self._idle
                    self._idle = None
        except asyncio.CancelledError:
            self._end("The writer was cancelled.", flying)
            raise
        except Exception as error:
            # Whatever it was, what is on the disk is not known any more: nothing may be acked after it (fail-stop).
            self._end(str(error) if isinstance(error, StoreFailed) else f"The writer failed: {error!r}.", flying)

    def _end(self, reason: str, flying: Flight | None) -> None:
        self._failure = reason
        for listener in self._failure_listeners:
            listener(StoreFailed(reason))
        _refuse(self._queue, StoreFailed(reason))
        self._queue.clear()
        if flying is not None:
            flying.writing.cancel()
            _refuse(flying.entries, StoreFailed(reason))

    def _take(self, *, whole: bool) -> list[Entry]:
        events_max = BATCH_EVENTS_MAX
        if not whole and len(self._queue) >= HALVED_MIN:
            # With nothing being written, half of it: the other half is judged meanwhile. Else callers who wait for each
            # other's batch fall into step, and disk and loop take turns for ever.
            events_max = min(BATCH_EVENTS_MAX, 1 << ((self._queue_events - 1).bit_length() - 1))
        elif self._queue_events <= BATCH_EVENTS_MAX and self._queue_bytes <= BATCH_BYTES_MAX:
            # All that waits; whoever was cancelled meanwhile is left out, and nothing of it is written.
            everything = [entry for entry in self._queue if not entry.future.done()]
            self._queue.clear()
            self._queue_events = self._queue_bytes = 0
            return everything
        entries: list[Entry] = []
        events = size = 0
        while self._queue:
            entry = self._queue[0]
            count = len(entry.request.drafts)
            if entries and (events + count > events_max or size + entry.size > BATCH_BYTES_MAX):
                break
            self._queue.popleft()
            self._queue_events -= count
            self._queue_bytes -= entry.size
            if not entry.future.done():
                entries.append(entry)
                events += count
                size += entry.size
        return entries

    async def _next(self, entries: list[Entry], flying: Flight | None) -> Flight | None:
        """Judge the batch while the one before it is being written, then begin to write it and ack that one.

        Returns what is being written now. It is judged on what the log will be once the batch before it is durable; if
        that one fails, both are judged again.
        """
        try:
            wanted, count = self._wanted(entries, trust=True)
            if self._full or wanted is not None:
                if flying is not None:
                    await self._land(flying)
                    flying = None
                await self._commit(entries)
                return None
            judged = self._judge(entries, _NOTHING, count)
            if flying is not None and not await self._has_landed(flying):
                await self._commit(entries)
                return None
            faultpoint.reached("before_append")
            writing = asyncio.ensure_future(self._medium.write(judged.assembly.batch))
            if flying is not None:
                self._finish(flying.judged)
            return Flight(judged, writing)
        except BaseException as error:
            _refuse(entries, _stop(error))
            raise

    async def _land(self, flying: Flight) -> None:
        """Wait until the batch is durable, and ack it; or judge it again, one step at a time, where it failed."""
        if await self._has_landed(flying):
            self._finish(flying.judged)

    async def _has_landed(self, flying: Flight) -> bool:
        """Tell whether the batch is durable; if not, it was written again alone, and what came after it is undone."""
        try:
            await flying.writing
        except (StorageFull, Collision):
            self._rewind()
            await self._commit(flying.entries)
            return False
        except BaseException as error:
            _refuse(flying.entries, _stop(error))
            raise
        return True

    def _rewind(self) -> None:
        """Go back to what is durable: forget all that was judged beyond it."""
        self._ahead = self.log.copy()
        self._states.clear()
        self._unended.clear()

    async def _commit(self, entries: list[Entry]) -> None:
        """Judge and write one batch, with none in flight."""
        try:
            entries = await self._admitted(entries)
            if not entries:
                return
            try:
                await self._write(entries)
            except StorageFull as full:
                self._full = True
                await self._write_on_reserve(self._refuse_unprivileged(entries, str(full)))
        except BaseException as error:
            _refuse(entries, _stop(error))
            raise

    async def _admitted(self, entries: list[Entry]) -> list[Entry]:
        """Refuse all but the privileged while the disk is full; the disk has room again once the reserve is whole."""
        if self._full:
            self._full = not await self._medium.refill_reserve()
            if self._full:
                return self._refuse_unprivileged(entries, "The disk is full; nothing was written.")
        return entries

    def _refuse_unprivileged(self, entries: list[Entry], reason: str) -> list[Entry]:
        privileged: list[Entry] = []
        for entry in entries:
            if entry.privileged:
                privileged.append(entry)
            elif not entry.future.done():
                entry.future.set_exception(StorageFull(reason))
        return privileged

    async def _write_on_reserve(self, entries: list[Entry]) -> None:
        while entries:
            if not await self._medium.release_reserve():
                for entry in entries:
                    if not entry.future.done():
                        entry.future.set_exception(StorageFull("The disk is full, and so is the reserve."))
                return
            with contextlib.suppress(StorageFull):
                await self._write(entries)
                return

    async def _write(self, entries: list[Entry]) -> None:
        try:
            await self._write_once(entries, trust=True)
        except Collision:
            # An id that was said to be fresh was not: judge the batch again, everything looked up.
            try:
                await self._write_once(entries, trust=False)
            except Collision as error:
                raise StoreFailed(f"The log contradicts its own indexes: {error}.") from None

    async def _write_once(self, entries: list[Entry], *, trust: bool) -> None:
        wanted, count = self._wanted(entries, trust=trust)
        found = _NOTHING if wanted is None else await self._medium.find(wanted)
        judged = self._judge(entries, found, count)
        if judged.assembly.batch.rows:
            faultpoint.reached("before_append")
            try:
                await self._medium.write(judged.assembly.batch)
            except (StorageFull, Collision):
                self._rewind()
                raise
        self._finish(judged)

    def _judge(self, entries: list[Entry], found: Found, count: int) -> Judged:
        """Judge each request alone, on what the log will be once all that was judged before is durable."""
        salts = self._randomness.bytes(16 * count)
        assembly = Assembly(self._ahead, self._states, found, self._clock.now_us(), salts)
        judged = Judged(entries, assembly)
        for entry in entries:
            try:
                judged.written.append((entry, assembly.admit(entry)))
            except ChronicledError as error:
                judged.refused.append((entry, error))
        assembly.seal(CHECKPOINT_EVENTS)
        assembly.settle(self._ahead)
        self._remember(assembly)
        return judged

    def _finish(self, judged: Judged) -> None:
        """Tell listeners of a batch that is durable, and ack it."""
        assembly = judged.assembly
        events = tuple(assembly.batch.events)
        if events:
            faultpoint.reached("commit_to_ack")
            assembly.settle(self.log)
            self._tell(events)
        for entry, result in judged.written:
            if not entry.future.done():
                entry.future.set_result(Appended(events[result]) if type(result) is slice else result)
        for entry, reason in judged.refused:
            if not entry.future.done():
                entry.future.set_exception(reason)

    def _wanted(self, entries: list[Entry], *, trust: bool) -> tuple[Wanted | None, int]:
        """Return what must be looked up, None for nothing, and the number of drafts."""
        wanted = Wanted([], [], [])
        states = self._states
        count = 0
        for entry in entries:
            count += len(entry.items)
            if entry.home not in states:
                wanted.sessions.append(entry.home)
            if entry.plain and not entry.unsure and trust:
                continue
            wanted.sessions += [key for key in entry.others if key not in states]
            wanted.actions += [key for key in entry.actions if key not in self._unended] if trust else entry.actions
            wanted.ids += entry.unsure if trust else [key for _, key, _, _ in entry.items]
        return (wanted if wanted.sessions or wanted.ids or wanted.actions else None), count

    def _remember(self, assembly: Assembly) -> None:
        self._states.update(assembly.states)
        while len(self._states) > STATES_MAX:
            del self._states[next(iter(self._states))]
        if len(self._unended) > UNENDED_MAX:
            self._unended.clear()
        self._unended.update(assembly.ids)
        self._unended -= assembly.ended

    def _tell(self, events: tuple[Event, ...]) -> None:
        for listener in tuple(self._listeners):
            listener(events)


def _refuse(entries: Iterable[Entry], reason: StoreFailed) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(reason)


def _stop(error: BaseException) -> StoreFailed:
    return error if isinstance(error, StoreFailed) else StoreFailed(f"The writer failed: {error!r}.")
