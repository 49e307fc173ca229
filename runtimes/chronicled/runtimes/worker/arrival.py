"""The arrival of a new sandbox: requested, started (or taken from the pool), recorded, and seen to its end."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.kinds.lifecycle import GenerationStarted, ImageProgress, SandboxRequested, SessionCreated
from chronicled.runtimes.action_server.frames import Environment
from chronicled.runtimes.runtime import Runtime, SandboxSpec
from chronicled.runtimes.worker import places
from chronicled.runtimes.worker.ability import clipped
from chronicled.runtimes.worker.birth import abort, come_over, greeted, start
from chronicled.runtimes.worker.burial import remove_sandbox
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.start_slot import StartSlot
from chronicled.runtimes.worker.warm import Warm

if TYPE_CHECKING:
    from chronicled.runtimes.worker.life import SandboxLife
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Arrival"]


class Arrival:
    """One attempt to give a session a sandbox.

    Args:
        session: Whose.
        life: What it becomes a part of.
    """

    def __init__(self, session: SessionWorker, life: SandboxLife) -> None:
        self._session = session
        self._context = session.context
        self._life = life
        self._order = life.order

    async def run(self) -> None:
        """Bring a sandbox, and return once it is over, buried and removed.

        Raises:
            SandboxStartFailed: it could not start; nothing of it is left.
            And as `Publisher`.
        """
        session, context = self._session, self._context
        created = session.created
        runtime = None if created is None else context.runtimes.get(created.runtime)
        if created is None or runtime is None:
            known = ", ".join(sorted(context.runtimes)) or "none"
            name = "of an unreadable name" if created is None else repr(created.runtime)
            raise SandboxStartFailed(f"This worker has no runtime {name}; it has: {known}.")
        warm = context.pool.take(created, self._order.pin())
        try:
            await self._live(runtime, created, warm)
        finally:
            if warm is not None and not warm.taken.is_set():
                # It was promised to this session in the log, so that no other may have it.
                await abort(warm.sandbox)

    async def _live(self, runtime: Runtime, created: SessionCreated, warm: Warm | None) -> None:
        session, context = self._session, self._context
        sandbox_id = context.ids.new() if warm is None else warm.sandbox_id
        generation_id = context.ids.new() if warm is None else warm.generation_id
        request = SandboxRequested(sandbox=sandbox_id, runtime=runtime.name, image=created.image)
        context.sandboxes.add(sandbox_id)
        draft = session.publisher.lifecycle("sandbox_requested", request)
        position = (await session.publisher.publish([draft]))[-1].position
        directories, disk = context.directories, context.disk
        if warm is None:
            token = context.randomness.bytes(32).hex()
            await to_thread.run_sync(places.prepare, directories, disk, sandbox_id, generation_id, token)
        else:
            token = warm.token
        spec = self._order.spec(sandbox_id, generation_id, token, position)
        session.environment.note_given(spec.environment)
        results = places.open_results(directories, disk, generation_id)
        try:
            generation = Generation(
                generation_id, sandbox_id, self._order.expected(spec, runtime, results), fresh=True, crew=session
            )
            failure, reason = None, ""
            listen = runtime.listen or context.listen
            async with listen(directories.socket_directory(sandbox_id), generation.serve):
                try:
                    reason = await self._start_and_serve(runtime, spec, generation, warm)
                except SandboxStartFailed as error:
                    failure = error
        finally:
            os.close(results)
        if failure is not None:
            # Where nothing was made, nothing has to be proven gone by who may not even be reached.
            remover = runtime if failure.extra.get("made", True) else None
            unproven = partial(self._life.fail, failure)
            await remove_sandbox(session, remover, sandbox_id, generation_id, "start_failed", unproven)
            raise failure
        await self._life.bury(runtime, generation, reason)

    async def _start_and_serve(
        self, runtime: Runtime, spec: SandboxSpec, generation: Generation, warm: Warm | None
    ) -> str:
        session, context = self._session, self._context
        began = context.clock.monotonic()
        slot = StartSlot(context.starts, context.settings.start_seconds, self._report)
        if warm is None:
            async with slot.taken():
                sandbox = await start(runtime, spec, generation, slot)
        else:
            sandbox = await come_over(warm, generation, context.settings.handshake_seconds)
            if spec.environment:
                # Before anything else is sent: its server was started without it.
                generation.send(Environment(variables={**spec.environment}))
        hello = generation.hello
        assert hello is not None
        generation.sandbox = sandbox
        try:
            await greeted(sandbox)
            seconds = context.clock.monotonic() - began
            started = GenerationStarted(
                sandbox=spec.sandbox,
                generation=spec.generation,
                runtime=runtime.name,
                boot_id=hello.boot_id,
                handle=sandbox.handle,
                kinds=sorted(generation.kinds),
                start_seconds=round(seconds, 6),
                phases=_phases(slot.queued_seconds, sandbox.phases if warm is None else {}, seconds),
                warm=warm is not None,
                image_digest=sandbox.image_digest,
                versions={kind: hello.versions[kind] for kind in generation.kinds if kind in hello.versions},
                units=clipped(hello.units),
                missing=clipped(hello.missing),
            )
            # Before its first dispatch: the journal says that it knows all that will be sent.
            context.journal.vouch(generation.id, session.publisher.fence)
            await session.publisher.publish([session.publisher.lifecycle("generation_started", started)])
        except BaseException:
            await abort(sandbox)
            raise
        session.generation = generation
        generation.recorded = True
        session.environment.tell(generation)
        self._life.heed()
        session.advance_all()
        return await self._life.see_out(generation, sandbox)

    async def _report(self, progress: ImageProgress) -> None:
        await self._session.publisher.publish([self._session.publisher.lifecycle("image_progress", progress)])


def _phases(queued: float, told: dict[str, float], whole: float) -> dict[str, float]:
    """Return where the time of a start went: in the queue of starts, in what the runtime did, until the handshake."""
    phases = {"queue": queued, **told}
    phases["ready"] = max(0.0, whole - sum(phases.values()))
    return {name: round(seconds, 6) for name, seconds in phases.items()}
