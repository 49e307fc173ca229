"""The life of a session's sandboxes, one at a time: request, start, serve, bury, remove."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio
import structlog
from anyio import to_thread

from chronicled.events.envelope import Event
from chronicled.events.errors import SandboxStartFailed, SandboxUnreachable
from chronicled.events.kinds.lifecycle import GenerationStarted, ImageProgress, SandboxRequested, SessionCreated
from chronicled.events.outcome import Deadline, Outcome
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.action_server.frames import Environment
from chronicled.runtimes.runtime import Runtime, Sandbox, SandboxSpec
from chronicled.runtimes.worker import places
from chronicled.runtimes.worker.ability import clipped
from chronicled.runtimes.worker.birth import (
    RETRY_SECONDS_MAX,
    RETRY_SECONDS_MIN,
    abort,
    come_over,
    ended,
    greeted,
    start,
)
from chronicled.runtimes.worker.burial import bury, remove_sandbox, unreachable
from chronicled.runtimes.worker.frost import Frost
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.handshake import Expected
from chronicled.runtimes.worker.refusal import never_ran
from chronicled.runtimes.worker.start_slot import StartSlot
from chronicled.runtimes.worker.warm import Warm

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["SandboxLife"]

Record = TypeVar("Record", SandboxRequested, GenerationStarted)

_log = structlog.get_logger("chronicled.worker")


class SandboxLife:
    """Gives one session a sandbox when it needs one, and sees it to its end.

    The log always knows more than there is: a sandbox is requested before it is made and removed after it is gone, a
    generation is recorded before anything is sent to it and ended after all that was sent to it has its observation.
    """

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._context = session.context
        self._busy = False
        self._killing = False
        self._doom = ""
        self.frost = Frost(session)
        self.undecided = False
        """What was open at the claim is not reconciled yet: nothing may be taken for never sent."""
        # At once, and not when its tasks begin: a sweep in between must not take the sandbox for an orphan.
        self._requested = self._decoded(session.fold.sandbox, SandboxRequested)
        self._started = self._decoded(session.fold.generation, GenerationStarted)
        for record in (self._requested, self._started):
            if record is not None:
                self._context.sandboxes.add(record.sandbox)

    def _decoded(self, event: Event | None, expected: type[Record]) -> Record | None:
        if event is None:
            return None
        payload = self._context.codec.decode(event)
        if not isinstance(payload, expected):
            raise SandboxUnreachable(
                f"The session's {event.kind} cannot be read here: nothing is known of its sandbox."
            )
        return payload

    @property
    def doomed(self) -> bool:
        """Whether the present generation is being ended: nothing more is sent to it."""
        return self._killing

    @property
    def idle(self) -> bool:
        """Whether there is no sandbox, and none on its way."""
        return not self._busy

    def take_up(self) -> None:
        """Go on from what the log says is there."""
        started, requested = self._started, self._requested
        if started is not None:
            self._busy = self.undecided = True
            self._session.spawn(partial(self._resume, started))
        elif requested is not None:
            # Nothing was ever sent to it, but something of it may be there.
            self._busy = self.undecided = True
            self._session.spawn(partial(self._clear_up, requested))

    def want(self) -> None:
        """See to it that there will be a sandbox. Idempotent."""
        if not self._busy:
            self._busy = True
            self._session.spawn(self._begin)

    def heed(self) -> None:
        """Do what was asked of the sandbox itself and can be done now: end it, stop it, let it go on. Idempotent."""
        if self._session.fold.restart is not None:
            self.put_down("restart_requested")
        elif not self._killing:
            self.frost.heed()

    def put_down(self, reason: str) -> None:
        """End the present generation, if there is one; the rest follows from its proven death. Idempotent."""
        generation = self._session.generation
        if generation is None or generation.sandbox is None or self._killing:
            return
        sandbox = generation.sandbox
        self._killing = True
        self._doom = reason
        self._session.spawn(lambda: self._kill(sandbox))

    async def _kill(self, sandbox: Sandbox) -> None:
        wait, began = RETRY_SECONDS_MIN, self._context.clock.monotonic()
        while True:
            try:
                await sandbox.kill()
                return
            except SandboxUnreachable as error:
                _log.warning("kill_unproven", session=self._session.key.session, detail=error.detail)
                self._despair(began)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    def _despair(self, began: float) -> None:
        # Nobody can know what became of what was sent: say so, rather than nothing for ever.
        generation = self._session.generation
        if generation is None or self._context.clock.monotonic() - began < self._context.settings.proof_seconds:
            return
        for flight in list(self._session.flights.values()):
            if not flight.ending:
                flight.ending = True
                lose = self._session.collector.lose
                self._session.spawn(partial(lose, generation, flight, unreachable(generation.id)))

    async def _bury(self, runtime: Runtime | None, generation: Generation, reason: str) -> None:
        await bury(self._session, runtime, generation, self._doom or reason)
        self._killing, self._doom, self.undecided = False, "", False
        self.frost.melt()

    async def _begin(self) -> None:
        failure: SandboxStartFailed | None = None
        for _ in range(self._context.settings.start_attempts):
            try:
                await self._one_life()
            except SandboxStartFailed as error:
                _log.warning("sandbox_start_failed", session=self._session.key.session, detail=error.detail)
                failure = error
            else:
                failure = None
                break
        self._busy = False
        if failure is not None:
            deadline = Deadline.START if failure.extra.get("deadline") else None
            message = f"The sandbox could not start: {failure.detail}"
            ending = never_ran(Outcome.ERROR, "sandbox_start_failed", message, deadline)
            self._session.end_unsent([(event, ending) for event in self._session.fold.open_actions()])
        self._session.advance_all()

    async def _one_life(self) -> None:
        session, context = self._session, self._context
        created = session.created
        runtime = None if created is None else context.runtimes.get(created.runtime)
        if created is None or runtime is None:
            known = ", ".join(sorted(context.runtimes)) or "none"
            name = "of an unreadable name" if created is None else repr(created.runtime)
            raise SandboxStartFailed(f"This worker has no runtime {name}; it has: {known}.")
        warm = context.pool.take(created, self._pin())
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
        spec = self._spec(sandbox_id, generation_id, token, position)
        session.environment.note_given(spec.environment)
        results = places.open_results(directories, disk, generation_id)
        try:
            generation = Generation(
                generation_id, sandbox_id, self._expected(spec, runtime, results), fresh=True, crew=session
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
            await remove_sandbox(session, runtime, sandbox_id, generation_id, "start_failed")
            raise failure
        await self._bury(runtime, generation, reason)

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
        self.heed()
        session.advance_all()
        return await self._see_out(generation, sandbox)

    async def _see_out(self, generation: Generation, sandbox: Sandbox) -> str:
        """Return why it ended; until then, have it go on whenever somebody stops it who is not asked for that."""
        reason = ""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.frost.watch, generation, sandbox)
            reason = await ended(sandbox)
            tasks.cancel_scope.cancel()
        return reason

    async def _report(self, progress: ImageProgress) -> None:
        await self._session.publisher.publish([self._session.publisher.lifecycle("image_progress", progress)])

    # -- finding again ---------------------------------------------------------------------------------------------

    def _spec(self, sandbox: str, generation: str, token: str, position: int) -> SandboxSpec:
        session, directories = self._session, self._context.directories
        created = session.created
        return SandboxSpec(
            tenant=session.key.tenant,
            session=session.key.session,
            sandbox=sandbox,
            generation=generation,
            token=token,
            socket_directory=directories.socket_directory(sandbox),
            working_directory=directories.home(sandbox),
            image=None if created is None else created.image,
            environment=session.environment.variables,
            request=SandboxRequest() if created is None else created.sandbox,
            position=position,
            image_pin=self._pin(),
        )

    def _pin(self) -> str | None:
        # A session's image is what its name stood for when it began, whoever moves the name meanwhile.
        begun = self._decoded(self._session.fold.begun, GenerationStarted)
        return None if begun is None else begun.image_digest

    def _expected(
        self, spec: SandboxSpec, runtime: Runtime | None, results: int, boot_id: str | None = None
    ) -> Expected:
        settings = self._context.settings
        return Expected(
            generation=spec.generation,
            token=spec.token,
            boot_id=boot_id or settings.boot_id,
            fence=self._session.publisher.fence,
            results=results,
            unclaimed_seconds=settings.unclaimed_seconds,
            seconds=settings.handshake_seconds,
            accepts=None if runtime is None else partial(runtime.may_dial, spec.sandbox),
        )

    async def _resume(self, started: GenerationStarted) -> None:
        context = self._context
        # Without its token it could never prove itself: it is put down below.
        restore = partial(places.restore, context.directories, started.sandbox, started.generation)
        token = await to_thread.run_sync(restore)
        requested = self._session.fold.sandbox
        spec = self._spec(started.sandbox, started.generation, token, 0 if requested is None else requested.position)
        results = places.open_results(context.directories, context.disk, started.generation)
        try:
            expected = self._expected(spec, context.runtimes.get(started.runtime), results, started.boot_id)
            generation = Generation(started.generation, started.sandbox, expected, fresh=False, crew=self._session)
            generation.recorded = True
            self._session.generation = generation
            reason = await self._attach_and_serve(generation, started, spec)
        finally:
            os.close(results)
        await self._bury(context.runtimes.get(started.runtime), generation, reason)
        self._busy = False
        self._session.advance_all()

    async def _attach_and_serve(self, generation: Generation, started: GenerationStarted, spec: SandboxSpec) -> str:
        context = self._context
        runtime = context.runtimes.get(started.runtime)
        listen = (None if runtime is None else runtime.listen) or context.listen
        async with listen(context.directories.socket_directory(started.sandbox), generation.serve):
            sandbox = await self._attach(started, spec)
            if sandbox is None:
                return "found_dead" if runtime is None else await runtime.epitaph(started.handle, spec)
            generation.sandbox = sandbox
            if not spec.token:
                self.put_down("token_lost")
            else:
                await self.frost.find(sandbox)
                # It dials by itself; should it stay away while something waits, it is put down.
                self.heed()
                self._session.advance_all()
            return await self._see_out(generation, sandbox)

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
            if self._context.clock.monotonic() - began > self._context.settings.proof_seconds:
                self._give_up_open(started.generation)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    def _give_up_open(self, generation: str) -> None:
        journal, fold = self._context.journal, self._session.fold
        vouched = journal.vouches(generation)
        sent = [event for event in fold.heads() if journal.dispatched(generation, event.id) or not vouched]
        self._session.end_unsent([(event, unreachable(generation)) for event in sent])

    async def _clear_up(self, requested: SandboxRequested) -> None:
        runtime = self._context.runtimes.get(requested.runtime)
        await remove_sandbox(self._session, runtime, requested.sandbox, None, "worker_restarted")
        self._busy = self.undecided = False
        self._session.advance_all()


def _phases(queued: float, told: dict[str, float], whole: float) -> dict[str, float]:
    """Return where the time of a start went: in the queue of starts, in what the runtime did, until the handshake."""
    phases = {"queue": queued, **told}
    phases["ready"] = max(0.0, whole - sum(phases.values()))
    return {name: round(seconds, 6) for name, seconds in phases.items()}
