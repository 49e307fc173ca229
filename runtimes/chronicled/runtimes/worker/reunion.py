"""The reunion with a sandbox that a worker before this one has left: found again, or proven dead."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import structlog
from anyio import to_thread

from chronicled.events.errors import SandboxUnreachable
from chronicled.events.kinds.lifecycle import GenerationStarted
from chronicled.runtimes.runtime import Sandbox, SandboxSpec
from chronicled.runtimes.worker import places
from chronicled.runtimes.worker.birth import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN
from chronicled.runtimes.worker.burial import unreachable
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.link import Link

if TYPE_CHECKING:
    from chronicled.runtimes.worker.life import SandboxLife
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Reunion"]

LOOK_SECONDS: Final = 5.0
"""How long a server that dials waits for its sandbox to be found. What runs there is to be heard of, found or not."""

_log = structlog.get_logger("chronicled.worker")


class Reunion:
    """A session and the sandbox that the log says it has.

    Args:
        session: The session.
        life: What the sandbox is a part of.
    """

    def __init__(self, session: SessionWorker, life: SandboxLife) -> None:
        self._session = session
        self._context = session.context
        self._life = life
        self._looked = anyio.Event()
        """Its runtime has looked for the sandbox once, and taken up what belongs to it, as its proxy."""

    async def run(self, started: GenerationStarted) -> None:
        """Take up the generation, and return once it is over, buried and removed. Raises as `Publisher`."""
        context = self._context
        # Without its token it could never prove itself: it is put down below.
        restore = partial(places.restore, context.directories, started.sandbox, started.generation)
        token = await to_thread.run_sync(restore)
        requested = self._session.fold.sandbox
        spec = self._life.order.spec(
            started.sandbox, started.generation, token, 0 if requested is None else requested.position
        )
        results = places.open_results(context.directories, context.disk, started.generation)
        try:
            expected = self._life.order.expected(spec, context.runtimes.get(started.runtime), results, started.boot_id)
            generation = Generation(started.generation, started.sandbox, expected, fresh=False, crew=self._session)
            generation.recorded = True
            self._session.generation = generation
            reason = await self._attach_and_serve(generation, started, spec)
        finally:
            os.close(results)
        await self._life.bury(context.runtimes.get(started.runtime), generation, reason)

    async def _attach_and_serve(self, generation: Generation, started: GenerationStarted, spec: SandboxSpec) -> str:
        context = self._context
        runtime = context.runtimes.get(started.runtime)
        listen = (None if runtime is None else runtime.listen) or context.listen

        async def accept(link: Link) -> None:
            # Sent at once, a command would run before the sandbox has its proxy again.
            with anyio.move_on_after(LOOK_SECONDS):
                await self._looked.wait()
            await generation.serve(link)

        async with listen(context.directories.socket_directory(started.sandbox), accept):
            sandbox = await self._attach(started, spec)
            if sandbox is None:
                return "found_dead" if runtime is None else await runtime.epitaph(started.handle, spec)
            generation.sandbox = sandbox
            if not spec.token:
                self._life.put_down("token_lost")
            else:
                await self._life.frost.find(sandbox)
                # It dials by itself; should it stay away while something waits, it is put down.
                self._life.heed()
                self._session.advance_all()
            return await self._life.see_out(generation, sandbox)

    async def _attach(self, started: GenerationStarted, spec: SandboxSpec) -> Sandbox | None:
        wait, began = RETRY_SECONDS_MIN, self._context.clock.monotonic()
        while True:
            runtime = self._context.runtimes.get(started.runtime)
            try:
                if runtime is None:
                    raise SandboxUnreachable(f"This worker has no runtime {started.runtime!r}.")
                return await runtime.attach(started.handle, spec)
            except SandboxUnreachable as error:
                _log.warning("sandbox_unreachable", session=self._session.key.session, detail=error.detail)
            finally:
                self._looked.set()
            if self._context.clock.monotonic() - began > self._context.settings.proof_seconds:
                self._give_up_open(started.generation)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    def _give_up_open(self, generation: str) -> None:
        journal, fold = self._context.journal, self._session.fold
        vouched = journal.vouches(generation)
        sent = [event for event in fold.heads() if journal.dispatched(generation, event.id) or not vouched]
        self._session.end_unsent([(event, unreachable(generation)) for event in sent])
