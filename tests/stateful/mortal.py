"""Workers that die at their n-th step: every call through a seam is two steps, before it and after it."""

# The protocols say what each method promises; repeated here it would be noise.
# ruff: noqa: D102

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
from tests.unit.worker.sandboxes import Pipe, ScriptedSandbox
from tests.unit.worker.world import WAIT_SECONDS, World

from chronicled.events import faultpoint
from chronicled.events.clock import SystemClock
from chronicled.events.envelope import Draft, Event
from chronicled.events.outcome import Outcome
from chronicled.events.session_secrets import SessionSecrets
from chronicled.events.store import Page
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.runtime import RuntimeDefaults
from chronicled.runtimes.worker.link import Accept
from chronicled.runtimes.worker.settings import WorkerSettings
from chronicled.runtimes.worker.worker import Worker
from chronicled.storage.disk import SystemDisk

OWN_POINTS = {"ack_to_dispatch", "journal_to_send", "mid_output", "spool_to_append"}


class Died(BaseException):
    """The worker's process has ended: nothing after this happens."""


class Fuse:
    """Counts steps; at the `burns_at`-th the worker is dead, and stays so."""

    def __init__(self, burns_at: int | None) -> None:
        self.burns_at = burns_at
        self.steps = 0
        self.dead = asyncio.Event()

    def reached(self, point: str) -> None:
        """Take a fault point of the worker for a step; the store's are not its own."""
        if point in OWN_POINTS:
            self.step()

    def step(self) -> None:
        if self.dead.is_set():
            raise Died
        self.steps += 1
        if self.steps == self.burns_at:
            self.dead.set()
            raise Died


class MortalLog:
    """A worker's log; also checks that no process of a generation lives when `sandbox_lost` is appended."""

    def __init__(self, world: World, fuse: Fuse) -> None:
        self.world = world
        self.fuse = fuse
        self.violations: list[str] = []

    @property
    def head(self) -> int:
        return self.world.log.head

    async def unfinished(self) -> Sequence[SessionKey]:
        return await self.world.log.unfinished()

    async def held(self) -> Sequence[SessionKey]:
        return await self.world.log.held()

    def follow(self, after: int) -> AbstractAsyncContextManager[AsyncIterator[Page]]:
        return self.world.log.follow(after)

    async def release(self, key: SessionKey, fence: int, reason: str) -> None:
        await self._call(self.world.log.release, key, fence, reason)

    async def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self.fuse.step()
        result = await call(*arguments)
        self.fuse.step()
        return result

    async def claim(self, key: SessionKey) -> Any:
        return await self._call(self.world.log.claim, key)

    async def publish(self, key: SessionKey, fence: int, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        for draft in drafts:
            said = msgspec.json.decode(draft.payload)
            if draft.terminal and said["outcome"] == Outcome.SANDBOX_LOST:
                alive = {server.spec.generation for server in self.world.host.alive.values()}
                if said["generation"] in alive:
                    self.violations.append("a process of the generation lives")
        events: tuple[Event, ...] = await self._call(self.world.log.publish, key, fence, drafts)
        return events

    async def put_blob(self, data: bytes) -> Any:
        return await self._call(self.world.log.put_blob, data)

    async def read_blob(self, key: SessionKey, digest: str) -> bytes:
        data: bytes = await self._call(self.world.log.read_blob, key, digest)
        return data

    async def adopt_blob(self, path: str, digest: str, size: int) -> Any:
        return await self._call(self.world.log.adopt_blob, path, digest, size)

    async def copy_blob(self, key: SessionKey, digest: str, descriptor: int) -> Any:
        return await self._call(self.world.log.copy_blob, key, digest, descriptor)

    async def resolve_secrets(self, key: SessionKey) -> SessionSecrets:
        secrets: SessionSecrets = await self._call(self.world.log.resolve_secrets, key)
        return secrets

    async def original(self, key: SessionKey, event: Event) -> bytes | None:
        payload: bytes | None = await self._call(self.world.log.original, key, event)
        return payload


class MortalDisk(SystemDisk):
    """A disk of which a dying worker writes no more."""

    def __init__(self, fuse: Fuse) -> None:
        self.fuse = fuse

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self.fuse.step()
        return super().open(path, flags, mode)

    def write(self, descriptor: int, data: bytes) -> None:
        self.fuse.step()
        super().write(descriptor, data)
        self.fuse.step()

    def replace(self, source: str, target: str) -> None:
        self.fuse.step()
        super().replace(source, target)
        self.fuse.step()


class MortalSandbox(ScriptedSandbox):
    """A sandbox that a dead worker cannot kill."""

    def __init__(self, sandbox: ScriptedSandbox, fuse: Fuse) -> None:
        super().__init__(sandbox.server)
        self.fuse = fuse

    async def kill(self) -> int:
        self.fuse.step()
        count = await super().kill()
        self.fuse.step()
        return count


class MortalRuntime(RuntimeDefaults):
    """The machine as a mortal worker reaches it."""

    name = "process"
    isolated = False

    def __init__(self, world: World, fuse: Fuse) -> None:
        self.host = world.host
        self.fuse = fuse

    async def start(self, spec: Any, report: Any = None) -> MortalSandbox:
        self.fuse.step()
        sandbox = await self.host.start(spec)
        self.fuse.step()
        return MortalSandbox(sandbox, self.fuse)

    async def attach(self, handle: Any, spec: Any) -> MortalSandbox | None:
        self.fuse.step()
        sandbox = await self.host.attach(handle, spec)
        return None if sandbox is None else MortalSandbox(sandbox, self.fuse)

    async def remove(self, sandbox: str) -> None:
        self.fuse.step()
        await self.host.remove(sandbox)

    async def sweep(self, known: Collection[str], head: int = 0) -> Sequence[str]:
        self.fuse.step()
        return await self.host.sweep(known)

    @asynccontextmanager
    async def listen_in(self, directory: str, accept: Accept) -> AsyncGenerator[None]:
        async def serve(link: Any) -> None:
            assert isinstance(link, Pipe)

            def sending(_frame: Any) -> bool:
                self.fuse.step()
                return True

            link.on_send = sending
            with contextlib.suppress(Died):
                await accept(link)

        self.fuse.step()
        async with self.host.listen_in(directory, serve):
            yield


class MortalWorker:
    """A worker under a fuse, in a task of its own."""

    def __init__(self, world: World, burns_at: int | None, **settings: Any) -> None:
        self.fuse = Fuse(burns_at)
        self.log = MortalLog(world, self.fuse)
        runtime = MortalRuntime(world, self.fuse)
        self.worker = Worker(
            self.log,
            {"process": runtime},
            world.directories,
            WorkerSettings(name="mortal", boot_id=world.host.boot_id, **settings),
            world.codec,
            SystemClock(),
            world.ids,
            MortalDisk(self.fuse),
            world.redaction,
            listen=runtime.listen_in,
        )

    async def live(self, until: asyncio.Task[Any]) -> None:
        """Work until `until` is done or the fuse has burnt, then end as a killed process does."""
        faultpoint.arm(self.fuse.reached)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self.worker.run())
        burnt = loop.create_task(self.fuse.dead.wait())
        try:
            await asyncio.wait([task, burnt, until], timeout=WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            faultpoint.arm(None)
            self.fuse.dead.set()
            task.cancel()
            burnt.cancel()
            await asyncio.wait([task, burnt], timeout=WAIT_SECONDS)
        assert not self.log.violations, self.log.violations
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            raise error
