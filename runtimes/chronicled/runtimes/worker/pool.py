"""The warm pool: sandboxes started ahead of need, taken by sessions that ask for nothing but their image."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
import structlog
from anyio import CancelScope, to_thread

from chronicled.events.errors import SandboxUnreachable
from chronicled.events.kinds.lifecycle import ImageProgress, SessionCreated
from chronicled.events.registry import Registry
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.action_server.frames import Status, ToWorker
from chronicled.runtimes.runtime import Runtime, SandboxSpec
from chronicled.runtimes.worker import places
from chronicled.runtimes.worker.birth import abort, ended, greeted, start
from chronicled.runtimes.worker.context import Context
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.handshake import Expected
from chronicled.runtimes.worker.settings import WarmSettings
from chronicled.runtimes.worker.start_slot import StartSlot
from chronicled.runtimes.worker.warm import Warm

__all__ = ["WarmPool"]

RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 60.0
REFILL_SECONDS: Final = 0.25
"""How long a place in the pool stays empty: a start takes a core, and whoever took the sandbox needs it first."""
REMOVE_SECONDS: Final = 20.0

_log = structlog.get_logger("chronicled.worker")


class WarmPool:
    """Keeps the wanted number of sandboxes waiting, for each entry of the settings.

    They belong to no session: what of them a crash leaves is unknown to the log and is removed at the next start. Each
    is given to one session at most, and serves no other afterwards.
    """

    def __init__(self, context: Context, entries: Sequence[WarmSettings]) -> None:
        self._context = context
        self._entries = entries
        self._waiting: dict[WarmSettings, deque[Warm]] = {entry: deque() for entry in entries}

    def count(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiting.values()))

    def take(self, created: SessionCreated, pin: str | None) -> Warm | None:
        """Return a sandbox that fits; see `Pool.take`."""
        if created.sandbox != SandboxRequest():
            return None
        for entry, waiting in self._waiting.items():
            if (entry.runtime, entry.image) != (created.runtime, created.image):
                continue
            for warm in tuple(waiting):
                if pin is None or warm.sandbox.image_digest == pin:
                    waiting.remove(warm)
                    return warm
        return None

    async def run(self) -> None:
        """Keep the pool filled until cancelled; then end what waits."""
        async with anyio.create_task_group() as tasks:
            for entry in self._entries:
                for _ in range(entry.count):
                    tasks.start_soon(self._keep_one, entry)

    async def _keep_one(self, entry: WarmSettings) -> None:
        wait = RETRY_SECONDS_MIN
        while True:
            runtime = self._context.runtimes.get(entry.runtime)
            if runtime is None:
                _log.warning("warm_pool_without_runtime", runtime=entry.runtime)
                return
            try:
                given = await _Wait(self._context, entry, runtime, self._waiting[entry]).run()
            except Exception as error:
                # Whatever it was: nobody has asked for this sandbox, and those who ask for one need the worker.
                _log.warning("warm_start_failed", image=entry.image, error=_words(error), retry_seconds=wait)
                given = False
            if given:
                wait = RETRY_SECONDS_MIN
                await anyio.sleep(REFILL_SECONDS)
            else:
                await anyio.sleep(wait)
                wait = min(2 * wait, RETRY_SECONDS_MAX)


class _Wait:
    """One sandbox's time in the pool."""

    def __init__(self, context: Context, entry: WarmSettings, runtime: Runtime, waiting: deque[Warm]) -> None:
        self._context = context
        self._entry = entry
        self._runtime = runtime
        self._waiting = waiting
        self._sandbox_id = context.ids.new()
        self._generation_id = context.ids.new()

    async def run(self) -> bool:
        """Start it and have it wait; return whether a session took it, and False once it ended by itself."""
        context, directories = self._context, self._context.directories
        token = context.randomness.bytes(32).hex()
        context.sandboxes.add(self._sandbox_id)
        given = False
        try:
            await to_thread.run_sync(
                places.prepare, directories, context.disk, self._sandbox_id, self._generation_id, token
            )
            results = places.open_results(directories, context.disk, self._generation_id)
            try:
                given = await self._start_and_wait(token, results)
            finally:
                os.close(results)
            return given
        finally:
            if not given:
                await self._remove()

    async def _start_and_wait(self, token: str, results: int) -> bool:
        context, settings = self._context, self._context.settings
        socket_directory = context.directories.socket_directory(self._sandbox_id)
        expected = Expected(
            generation=self._generation_id,
            token=token,
            boot_id=settings.boot_id,
            fence=0,
            results=results,
            unclaimed_seconds=settings.unclaimed_seconds,
            seconds=settings.handshake_seconds,
            accepts=partial(self._runtime.may_dial, self._sandbox_id),
        )
        generation = Generation(self._generation_id, self._sandbox_id, expected, fresh=True, crew=_NoCrew())
        spec = SandboxSpec(
            tenant="_system",
            session="pool",
            sandbox=self._sandbox_id,
            generation=self._generation_id,
            token=token,
            socket_directory=socket_directory,
            working_directory=context.directories.home(self._sandbox_id),
            image=self._entry.image,
            # Above every sandbox of the log so far, and never above its head.
            position=context.log.head,
        )
        warm: Warm | None = None
        try:
            listen = self._runtime.listen or context.listen
            async with listen(socket_directory, generation.serve):
                slot = StartSlot(context.starts, settings.start_seconds, _nobody)
                async with slot.taken():
                    sandbox = await start(self._runtime, spec, generation, slot)
                hello = generation.hello
                assert hello is not None
                warm = Warm(
                    sandbox_id=self._sandbox_id,
                    generation_id=self._generation_id,
                    token=token,
                    sandbox=sandbox,
                    kinds=sorted(hello.kinds),
                    boot_id=hello.boot_id,
                    taken=anyio.Event(),
                )
                try:
                    await greeted(sandbox)
                    self._waiting.append(warm)
                    await _taken_or_ended(warm)
                finally:
                    if not warm.taken.is_set():
                        await abort(sandbox)
        finally:
            if warm is not None and warm in self._waiting:
                self._waiting.remove(warm)
        return warm is not None and warm.taken.is_set()

    async def _remove(self) -> None:
        directories = self._context.directories
        try:
            with CancelScope(shield=True), anyio.move_on_after(REMOVE_SECONDS):
                try:
                    await self._runtime.remove(self._sandbox_id)
                except SandboxUnreachable as error:
                    # It stays unknown to the log, so that a sweep removes it.
                    _log.warning("removal_unproven", sandbox=self._sandbox_id, detail=error.detail)
                for path in (
                    directories.generation_spool(self._generation_id),
                    directories.socket_directory(self._sandbox_id),
                    directories.sandbox(self._sandbox_id),
                ):
                    await to_thread.run_sync(places.remove, path)
        finally:
            self._context.sandboxes.discard(self._sandbox_id)


async def _taken_or_ended(warm: Warm) -> None:
    async with anyio.create_task_group() as race:

        async def watch() -> None:
            await ended(warm.sandbox)
            race.cancel_scope.cancel()

        race.start_soon(watch)
        await warm.taken.wait()
        race.cancel_scope.cancel()


def _words(error: Exception) -> str:
    """Return what went wrong: what a task group wraps is what counts, and its first error is the cause."""
    first: Exception = error
    while inner := getattr(first, "exceptions", ()):
        first = inner[0]
    return f"{type(first).__name__}: {first}"


async def _nobody(_progress: ImageProgress) -> None:
    """Tell nobody: there is no session yet."""


class _NoCrew:
    """Acts on nothing: nothing is sent to a sandbox that waits, so it has nothing to say."""

    registry = Registry()

    def on_frame(self, generation: Generation, frame: ToWorker) -> None:
        pass

    def on_status(self, generation: Generation, status: Status) -> None:
        pass

    def on_absence(self, generation: Generation) -> None:
        pass

    def on_failure(self, error: Exception) -> None:
        _log.warning("warm_sandbox_failed", error=repr(error))
