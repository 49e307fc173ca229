"""The worker: claims every unfinished session, follows the log, and keeps one `SessionWorker` for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

import anyio
import msgspec
import structlog
from anyio import TASK_STATUS_IGNORED, CapacityLimiter, to_thread
from anyio.abc import TaskGroup, TaskStatus

from chronicled.events.clock import Clock
from chronicled.events.codec import Codec
from chronicled.events.disk import Disk
from chronicled.events.envelope import ACTION, Event
from chronicled.events.errors import (
    Overloaded,
    SandboxUnreachable,
    SessionNotFound,
    StaleFence,
    StorageFull,
    StoreClosed,
    StoreFailed,
)
from chronicled.events.ids import IdSource, Randomness, SystemRandomness
from chronicled.events.redaction import Redaction
from chronicled.events.worker_log import SessionKey, WorkerLog
from chronicled.runtimes.output.live import OutputBoard
from chronicled.runtimes.runtime import Runtime
from chronicled.runtimes.worker import places
from chronicled.runtimes.worker.context import Context
from chronicled.runtimes.worker.journal import Journal
from chronicled.runtimes.worker.link import Listen
from chronicled.runtimes.worker.pool import WarmPool
from chronicled.runtimes.worker.session import SessionWorker
from chronicled.runtimes.worker.settings import Directories, WorkerSettings
from chronicled.runtimes.worker.timers import Timers
from chronicled.runtimes.worker.warm import NoPool

__all__ = ["Worker"]

RETRY_SECONDS_MIN = 0.2
RETRY_SECONDS_MAX = 30.0
THREADS_MAX = 4

_log = structlog.get_logger("chronicled.worker")


class _Slot:
    """A session of this worker; while it is being claimed its events wait here."""

    __slots__ = ("key", "session", "waiting")

    def __init__(self, key: SessionKey) -> None:
        self.key = key
        self.session: SessionWorker | None = None
        self.waiting: list[Event] = []


class Worker:
    """Runs actions: what is accepted is neither lost nor repeated, and its outcome is told (design D5, D10).

    Guarantees, across `kill -9` of this process or of an action server at any point: an action is sent at most once to
    a generation and only after it is durable; it gets exactly one terminal observation; sandboxes outlive this process
    and are found again.

    Args:
        log: The log as a worker sees it.
        runtimes: By name.
        directories: Where it keeps journal, spools, outputs, tokens and sockets; this worker's alone.
        settings: Bounds and deadlines.
        codec: Encodes what it publishes and decodes what it runs.
        clock: Time.
        ids: New ids.
        disk: The disk.
        redaction: Takes secrets out of outputs.
        randomness: Tokens; the kernel's by default.
        listen: How sandboxes reach it; a Unix socket by default.
    """

    def __init__(
        self,
        log: WorkerLog,
        runtimes: Mapping[str, Runtime],
        directories: Directories,
        settings: WorkerSettings,
        codec: Codec,
        clock: Clock,
        ids: IdSource,
        disk: Disk,
        redaction: Redaction,
        randomness: Randomness | None = None,
        listen: Listen | None = None,
    ) -> None:
        self.outputs = OutputBoard()
        """Where the daemon reads the output of actions that have not ended."""
        if listen is None:
            from chronicled.runtimes.worker.unix_link import listen_unix

            listen = listen_unix
        self._log = log
        self._runtimes = runtimes
        self._directories = directories
        self._settings = settings
        self._codec = codec
        self._clock = clock
        self._ids = ids
        self._disk = disk
        self._redaction = redaction
        self._randomness = randomness or SystemRandomness()
        self._listen = listen
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._ceded: set[tuple[str, str]] = set()
        self._held: frozenset[tuple[str, str]] = frozenset()
        """Sessions that only a newer version understands: nothing of theirs is touched."""
        self._claims = CapacityLimiter(settings.claims_max)
        self._starts = CapacityLimiter(settings.starts_max)
        self._pool: WarmPool | None = None
        self._unclaimed: set[SessionKey] = set()
        self._all_claimed = anyio.Event()
        self._draining = anyio.Event()
        self._began = ""

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        """Work until `drain` is called or the log ends; `started` once every unfinished session is claimed.

        Raises:
            StoreFailed: log, journal or spool cannot be written; the process must end.
            StoreClosed: the log was closed first.

        Cancellation: as a crash, with nothing lost: sandboxes live on, and the next worker reconciles.
        """
        journal = Journal(self._directories.journal, self._settings.boot_id, self._disk)
        timers = Timers(self._clock)
        context = self._context(journal, timers)
        pool = self._pool = WarmPool(context, self._settings.warm)
        context = replace(context, pool=pool)
        self._began = self._ids.new()
        self._clear_outputs()
        try:
            await self._leave_alone()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(timers.run)
                for runtime in self._runtimes.values():
                    tasks.start_soon(runtime.run)
                await tasks.start(self._follow, context, tasks)
                keys = await self._log.unfinished()
                self._unclaimed = set(keys)
                for key in keys:
                    # The follower may have met it already.
                    if (key.tenant, key.session) not in self._slots:
                        self._adopt(context, tasks, key)
                    elif self._slots[key.tenant, key.session].session is not None:
                        self._unclaimed.discard(key)
                if self._unclaimed:
                    await self._all_claimed.wait()
                await self._sweep(context)
                await self._forget_dead_generations(journal)
                await self._forget_orphans(context)
                tasks.start_soon(self._sweep_for_ever, context)
                tasks.start_soon(pool.run)
                task_status.started()
                await self._draining.wait()
                await self._wind_up()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            journal.close()

    @property
    def starting(self) -> int:
        """How many sandboxes start at the moment."""
        return self._starts.statistics().borrowed_tokens

    @property
    def waiting_to_start(self) -> int:
        """How many sandboxes wait for their turn to start."""
        return self._starts.statistics().tasks_waiting

    @property
    def warm(self) -> int:
        """How many started sandboxes wait for a session."""
        return 0 if self._pool is None else self._pool.count()

    async def tell(self, sandbox: str, kind: str, payload: msgspec.Struct) -> bool:
        """Append news of a sandbox to its session's stream; return False where no session of this worker has it.

        Raises:
            ChronicledError: as `Publisher`.
        """
        for slot in self._slots.values():
            session = slot.session
            if session is not None and session.generation is not None and session.generation.sandbox_id == sandbox:
                await session.publisher.publish([session.publisher.lifecycle(kind, payload)])
                return True
        return False

    def drain(self) -> None:
        """Have `run` end in order: nothing more is sent, results that are here are published, sandboxes live on."""
        self._draining.set()

    def _context(self, journal: Journal, timers: Timers) -> Context:
        return Context(
            log=self._log,
            runtimes=self._runtimes,
            directories=self._directories,
            settings=self._settings,
            codec=self._codec,
            clock=self._clock,
            ids=self._ids,
            randomness=self._randomness,
            disk=self._disk,
            redaction=self._redaction,
            journal=journal,
            timers=timers,
            board=self.outputs,
            listen=self._listen,
            starts=self._starts,
            threads=CapacityLimiter(THREADS_MAX),
            pool=NoPool(),
        )

    def _clear_outputs(self) -> None:
        # What a worker before this one left half-made; pumps make it again from the spools.
        for entry in os.scandir(self._directories.output):
            if entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)

    async def _leave_alone(self) -> None:
        self._held = frozenset((key.tenant, key.session) for key in await self._log.held())
        for tenant, session in sorted(self._held):
            _log.warning("session_of_a_newer_version_left_alone", tenant=tenant, session=session)

    async def _forget_dead_generations(self, journal: Journal) -> None:
        """Drop journal entries and spools that no open generation needs: a crash in a burial leaves some."""
        sessions = [slot.session for slot in self._slots.values()]
        if None in sessions or self._held:
            return  # what could not be claimed, or is left alone, may need them
        live = {session.generation_id for session in sessions if session is not None}

        def needed(generation: str) -> bool:
            # One that began since this worker's start may be in no fold yet; ids rise with time.
            return generation > self._began or generation in live

        journal.keep(needed)
        for name in await to_thread.run_sync(os.listdir, self._directories.spool):
            if not needed(name):
                await to_thread.run_sync(places.remove, self._directories.generation_spool(name))

    async def _forget_orphans(self, context: Context) -> None:
        """Remove the folders of sandboxes that no log knows: those of a warm pool, after a crash."""
        if self._held or any(slot.session is None for slot in self._slots.values()):
            return  # as for a sweep

        def needed(sandbox: str) -> bool:
            return sandbox > self._began or sandbox in context.sandboxes

        gone = await to_thread.run_sync(places.forget_orphans, self._directories, needed)
        if gone:
            _log.info("orphaned_folders_removed", sandboxes=gone)

    async def _sweep(self, context: Context) -> None:
        if self._held or any(slot.session is None for slot in self._slots.values()):
            return  # a session could not be claimed, or is left alone: what is its own is not known
        for runtime in self._runtimes.values():
            try:
                # The set itself, not a copy: what starts while the runtime looks around must not be swept.
                removed = await runtime.sweep(context.sandboxes, self._log.head)
            except SandboxUnreachable as error:
                _log.warning("sweep_unproven", runtime=runtime.name, detail=error.detail)
                continue
            except Exception:
                # What a runtime may meet on the way is of no end. The sessions have nothing to do with it.
                _log.exception("sweep_failed", runtime=runtime.name)
                continue
            if removed:
                _log.warning("orphans_removed", runtime=runtime.name, sandboxes=list(removed))

    async def _sweep_for_ever(self, context: Context) -> None:
        while True:
            await anyio.sleep(self._settings.sweep_seconds)
            await self._sweep(context)

    # -- following -------------------------------------------------------------------------------------------------

    async def _follow(
        self, context: Context, tasks: TaskGroup, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        async with self._log.follow(self._log.head) as pages:
            task_status.started()
            async for page in pages:
                for session in self._fold(context, tasks, page.events):
                    try:
                        session.settle_up()
                    except Exception as error:
                        session.on_failure(error)

    def _fold(self, context: Context, tasks: TaskGroup, events: tuple[Event, ...]) -> Iterable[SessionWorker]:
        touched: dict[tuple[str, str], SessionWorker] = {}
        for event in events:
            key = (event.tenant, event.session)
            slot = self._slots.get(key)
            if slot is None:
                if self._concerns(key, event):
                    self._adopt(context, tasks, SessionKey(*key))
            elif slot.session is None:
                slot.waiting.append(event)
            else:
                try:
                    slot.session.take(event)
                except Exception as error:
                    slot.session.on_failure(error)
                touched[key] = slot.session
        return touched.values()

    def _concerns(self, key: tuple[str, str], event: Event) -> bool:
        if event.tenant.startswith("_") or self._draining.is_set():
            return False
        if event.kind == "session_released" and event.category == "lifecycle":
            self._ceded.discard(key)
            return False
        if key in self._ceded or key in self._held:
            return False
        if event.kind == "session_created":
            return True
        spec = (
            self._codec.registry.find_current(ACTION, event.kind, event.version) if event.category == ACTION else None
        )
        return spec is not None and spec.runnable

    # -- sessions --------------------------------------------------------------------------------------------------

    def _adopt(self, context: Context, tasks: TaskGroup, key: SessionKey) -> None:
        slot = self._slots[key.tenant, key.session] = _Slot(key)
        tasks.start_soon(self._tend, context, slot)

    async def _tend(self, context: Context, slot: _Slot) -> None:
        wait = RETRY_SECONDS_MIN
        while not self._draining.is_set():
            began = self._clock.monotonic()
            failure = await self._hold(context, slot)
            if failure is None:
                break
            if isinstance(failure, StoreFailed | StoreClosed):
                raise failure
            if isinstance(failure, StaleFence | SessionNotFound):
                self._ceded.add((slot.key.tenant, slot.key.session))
                break
            if self._clock.monotonic() - began > RETRY_SECONDS_MAX:
                wait = RETRY_SECONDS_MIN
            _log.error("session_failed", session=slot.key.session, error=repr(failure), retry_seconds=wait)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)
        if not self._draining.is_set():
            self._slots.pop((slot.key.tenant, slot.key.session), None)

    async def _hold(self, context: Context, slot: _Slot) -> Exception | None:
        """Claim the session and run it; return why that ended, None when the session is over."""
        try:
            session = await self._claim(context, slot)
        except Exception as error:
            slot.waiting.clear()  # the next claim covers them
            return error
        finally:
            self._count_claim(slot.key)
        failure = await _run(session)
        slot.session = None
        slot.waiting.clear()
        return failure

    async def _claim(self, context: Context, slot: _Slot) -> SessionWorker:
        async with self._claims:
            claim = await self._log.claim(slot.key)
        session = SessionWorker(context, claim)
        for event in slot.waiting:
            session.take(event)
        slot.waiting.clear()
        slot.session = session
        return session

    def _count_claim(self, key: SessionKey) -> None:
        # Claimed, or failed once: either way the start has looked at it.
        self._unclaimed.discard(key)
        if not self._unclaimed:
            self._all_claimed.set()

    async def _wind_up(self) -> None:
        with anyio.move_on_after(self._settings.drain_seconds):
            async with anyio.create_task_group() as drains:
                for slot in self._slots.values():
                    if slot.session is not None:
                        drains.start_soon(self._give_back, slot.key, slot.session)

    async def _give_back(self, key: SessionKey, session: SessionWorker) -> None:
        await session.drain()
        try:
            await self._log.release(key, session.publisher.fence, "drain")
        except (StaleFence, StoreClosed, StorageFull, Overloaded) as error:
            # It is only a courtesy: the next worker claims the session whether it was given back or not.
            _log.warning("release_failed", session=key.session, code=error.code)


async def _run(session: SessionWorker) -> Exception | None:
    try:
        await session.run()
    except ExceptionGroup as group:
        return _first(group)
    except Exception as error:
        return error
    return None


def _first(group: BaseExceptionGroup[BaseException]) -> Exception:
    """Return the error of a group that matters most: one that must end the process, then one that ends the session."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
        if inner:
            pending.extend(inner)
        else:
            leaves.append(error)
    for kinds in ((StoreFailed,), (StoreClosed,), (StaleFence, SessionNotFound), (Exception,)):
        for error in leaves:
            if isinstance(error, kinds):
                return error
    raise group
