"""A small world for workers: a store in memory, scripted sandboxes, a directory; workers come and go in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from tests.unit.worker.sandboxes import Host
from tests.unit.worker.stream_log import StreamWorkerLog

from chronicled.events.clock import Clock, SystemClock
from chronicled.events.codec import Codec
from chronicled.events.disk import Disk
from chronicled.events.envelope import ACTION, LIFECYCLE, Draft, Event
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.actions import Run
from chronicled.events.kinds.lifecycle import CancelRequested, SandboxRequested, SessionClosed, SessionCreated
from chronicled.events.redaction import IdentityRedaction, Redaction
from chronicled.events.registry import builtin_registry
from chronicled.events.store import Append
from chronicled.events.worker_log import WorkerLog
from chronicled.runtimes.worker.settings import Directories, WorkerSettings
from chronicled.runtimes.worker.worker import Worker
from chronicled.storage.disk import SystemDisk
from chronicled.storage.memory import MemoryStore
from chronicled.storage.memory_blobs import MemoryBlobStore
from chronicled.storage.stream import LogStream

TENANT = "default"
WAIT_SECONDS = 60.0
"""Against waiting for ever; a machine that stands still for a while is no failure."""


class StandingClock(SystemClock):
    """A clock that stands until it is let go: no deadline passes before a test has what the deadline is to meet."""

    def __init__(self) -> None:
        self._stands: tuple[int, float] | None = (super().now_us(), super().monotonic())

    def go(self) -> None:
        """Tell the true time from now on."""
        self._stands = None

    def now_us(self) -> int:
        """Return the time, or that at which it stands."""
        return super().now_us() if self._stands is None else self._stands[0]

    def monotonic(self) -> float:
        """Return the time, or that at which it stands."""
        return super().monotonic() if self._stands is None else self._stands[1]


class World:
    """Everything that outlives a worker."""

    def __init__(self, root: Path, store: MemoryStore) -> None:
        self.codec = Codec(builtin_registry())
        self.ids = SystemIds()
        self.store = store
        self.stream = LogStream(store)
        self.blobs = MemoryBlobStore()
        self.log = StreamWorkerLog(store, self.stream, self.blobs, self.codec, "tester")
        self.host = Host()
        self.redaction: Redaction = IdentityRedaction()
        self.directories = Directories(
            spool=str(root / "spool"),
            output=str(root / "output"),
            journal=str(root / "journal"),
            sandboxes=str(root / "sandboxes"),
            sockets=str(root / "sockets"),
        )
        for path in msgspec.structs.astuple(self.directories):
            Path(path).mkdir(exist_ok=True)

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path) -> AsyncGenerator[World]:
        """Open a world whose log and directories are empty."""
        world = cls(root, await MemoryStore.open())
        try:
            yield world
        finally:
            await world.host.aclose()
            await world.store.aclose()

    def worker(
        self, log: WorkerLog | None = None, disk: Disk | None = None, *, clock: Clock | None = None, **settings: Any
    ) -> Worker:
        """Return a worker for this world, not running yet."""
        return Worker(
            log or self.log,
            {"process": self.host},
            self.directories,
            WorkerSettings(name="tester", boot_id=self.host.boot_id, **settings),
            self.codec,
            clock or SystemClock(),
            self.ids,
            disk or SystemDisk(),
            self.redaction,
            listen=self.host.listen_in,
        )

    @asynccontextmanager
    async def working(self, **settings: Any) -> AsyncGenerator[Worker]:
        """A worker that runs for as long as the context lasts, then is cancelled as if it had crashed."""
        worker = self.worker(**settings)
        async with running(worker):
            yield worker

    async def create(self, session: str = "s", runtime: str = "process", **fields: Any) -> Event:
        """Create a session."""
        payload = SessionCreated(runtime=runtime, **fields)
        return await self._append(self._draft(LIFECYCLE, "session_created", payload, session), create=True)

    async def close(self, session: str = "s") -> Event:
        """Close a session."""
        return await self._append(self._draft(LIFECYCLE, "session_closed", SessionClosed(), session))

    async def request_sandbox(self, session: str, sandbox: str) -> Event:
        """Leave behind what a worker does that dies while it starts a sandbox."""
        payload = SandboxRequested(sandbox=sandbox, runtime="process", image=None)
        return await self._append(self._draft(LIFECYCLE, "sandbox_requested", payload, session))

    async def submit(self, command: str = "ok", session: str = "s", lane: str = "main", **fields: Any) -> Event:
        """Submit a `run`."""
        return await self.submit_kind("run", Run(command=command, **fields), session, lane)

    async def submit_kind(self, kind: str, payload: Any, session: str = "s", lane: str = "main") -> Event:
        """Submit an action of any kind."""
        return await self._append(self._draft(ACTION, kind, payload, session, lane=lane, source="client"))

    async def ask(self, action: Event, kind: str = "cancel_requested", payload: Any = None) -> Event:
        """Ask something of an action: by default that it be cancelled."""
        payload = payload or CancelRequested()
        draft = self._draft(LIFECYCLE, kind, payload, action.session, lane=action.lane, cause=action.id)
        return await self._append(draft)

    async def ask_session(self, kind: str, payload: Any, session: str = "s") -> Event:
        """Ask something of a session itself: a pause, a restart."""
        return await self._append(self._draft(LIFECYCLE, kind, payload, session, source="client"))

    def _draft(self, category: Any, kind: str, payload: Any, session: str, **fields: Any) -> Draft:
        return self.codec.draft(category, kind, payload, tenant=TENANT, session=session, id=self.ids.new(), **fields)

    async def _append(self, draft: Draft, create: bool = False) -> Event:
        return (await self.stream.append(Append((draft,), create=create))).events[0]

    async def ended(self, action: Event) -> Any:
        """Wait for the action's terminal observation and return its payload."""
        found: Event | None = None

        async def there() -> bool:
            nonlocal found
            found = await self.store.terminal(TENANT, action.id)
            return found is not None

        await self.until(there)
        assert found is not None
        return self.codec.decode(found)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the condition holds, looking again after each commit and each millisecond; bounded."""
        async with asyncio.timeout(WAIT_SECONDS):
            # Polled, since what is waited for is in more places than one could wait on.
            while not await condition():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.001)

    async def events(self, *kinds: str) -> list[Event]:
        """Return the log, or its events of some kinds."""
        page = await self.store.read(0, 1000)
        return [event for event in page.events if not kinds or event.kind in kinds]


@asynccontextmanager
async def running(worker: Worker) -> AsyncGenerator[None]:
    """Run the worker in a task of its own; leaving cancels it."""
    task = asyncio.get_running_loop().create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=WAIT_SECONDS)
        if not task.cancelled() and task.exception() is not None:
            raise task.exception() or AssertionError
