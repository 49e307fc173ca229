"""The life of a session's sandboxes, one at a time: request, start, serve, bury, remove."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import structlog
from anyio import CancelScope, to_thread

from chronicled.events.envelope import Event
from chronicled.events.errors import SandboxStartFailed, SandboxUnreachable
from chronicled.events.kinds.lifecycle import GenerationEnded, GenerationStarted, SandboxRemoved, SandboxRequested
from chronicled.events.outcome import Deadline, Effects, Outcome
from chronicled.runtimes.runtime import Runtime, Sandbox, SandboxSpec
from chronicled.runtimes.worker.flight import Flight
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.handshake import Expected
from chronicled.runtimes.worker.observation import Ending
from chronicled.runtimes.worker.reconcile import Journaled, judge
from chronicled.runtimes.worker.refusal import never_ran
from chronicled.runtimes.worker.spool import spooled_results

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["SandboxLife"]

RETRY_SECONDS_MIN: Final = 0.2
RETRY_SECONDS_MAX: Final = 30.0
KILL_SECONDS: Final = 20.0
"""How long a start that is given up waits for the proof that nothing of it is left."""

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
        message = "The sandbox cannot be reached, and its death cannot be proven."
        for flight in list(self._session.flights.values()):
            if not flight.ending:
                flight.ending = True
                ending = Ending(
                    outcome=Outcome.UNKNOWN,
                    effects=Effects.POSSIBLE,
                    reason="unreachable",
                    message=message,
                    generation=generation.id,
                )
                self._session.spawn(partial(self._lose, generation, flight, ending))

    async def _lose(self, generation: Generation, flight: Flight, ending: Ending) -> None:
        await self._session.collector.lose(generation, flight, ending)

    # -- beginning -------------------------------------------------------------------------------------------------

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
        sandbox_id = context.ids.new()
        generation_id = context.ids.new()
        request = SandboxRequested(sandbox=sandbox_id, runtime=runtime.name, image=created.image)
        context.sandboxes.add(sandbox_id)
        await session.publisher.publish([session.publisher.lifecycle("sandbox_requested", request)])
        token = context.randomness.bytes(32).hex()
        await to_thread.run_sync(self._prepare, sandbox_id, generation_id, token)
        spec = self._spec(sandbox_id, generation_id, token)
        results = self._open_results(generation_id)
        try:
            generation = Generation(
                generation_id, sandbox_id, self._expected(generation_id, token, results), fresh=True, crew=session
            )
            failure, reason = None, ""
            async with context.listen(context.directories.socket_directory(sandbox_id), generation.serve):
                try:
                    reason = await self._start_and_serve(runtime, spec, generation)
                except SandboxStartFailed as error:
                    failure = error
        finally:
            os.close(results)
        if failure is not None:
            await self._remove(sandbox_id, generation_id, "start_failed")
            raise failure
        await self._bury(generation, reason)

    async def _start_and_serve(self, runtime: Runtime, spec: SandboxSpec, generation: Generation) -> str:
        session, context = self._session, self._context
        began = context.clock.monotonic()
        async with context.starts:
            sandbox = await self._start(runtime, spec, generation)
        hello = generation.hello
        assert hello is not None
        generation.sandbox = sandbox
        try:
            started = GenerationStarted(
                sandbox=spec.sandbox,
                generation=spec.generation,
                runtime=runtime.name,
                boot_id=hello.boot_id,
                handle=sandbox.handle,
                kinds=sorted(generation.kinds),
                start_seconds=round(context.clock.monotonic() - began, 6),
            )
            # Before its first dispatch: the journal says that it knows all that will be sent.
            context.journal.vouch(generation.id, session.publisher.fence)
            await session.publisher.publish([session.publisher.lifecycle("generation_started", started)])
        except BaseException:
            await self._abort(sandbox)
            raise
        session.generation = generation
        generation.recorded = True
        session.advance_all()
        return await self._ended(sandbox)

    async def _start(self, runtime: Runtime, spec: SandboxSpec, generation: Generation) -> Sandbox:
        sandbox: Sandbox | None = None
        died = ""
        try:
            with anyio.move_on_after(self._context.settings.start_seconds):
                sandbox = await runtime.start(spec)
                died = await self._greeted_or_dead(sandbox, generation)
                if not died:
                    return sandbox
        except BaseException:
            if sandbox is not None:
                await self._abort(sandbox)
            raise
        if sandbox is not None and not died:
            await self._abort(sandbox)
        if died:
            raise SandboxStartFailed(f"The action server ended before it reported in ({died}).")
        seconds = self._context.settings.start_seconds
        raise SandboxStartFailed(f"It did not report in within the start deadline of {seconds} s.", deadline=True)

    async def _greeted_or_dead(self, sandbox: Sandbox, generation: Generation) -> str:
        died = ""
        async with anyio.create_task_group() as race:

            async def watch() -> None:
                nonlocal died
                died = await self._ended(sandbox) or "ended"
                race.cancel_scope.cancel()

            race.start_soon(watch)
            await generation.greeted.wait()
            race.cancel_scope.cancel()
        return died

    async def _ended(self, sandbox: Sandbox) -> str:
        wait = RETRY_SECONDS_MIN
        while True:
            try:
                return await sandbox.wait_ended()
            except SandboxUnreachable as error:
                _log.warning("death_unproven", session=self._session.key.session, detail=error.detail)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    async def _abort(self, sandbox: Sandbox) -> None:
        # Nothing in the log would find it again by its handle: it must not outlive this attempt.
        with CancelScope(shield=True), anyio.move_on_after(KILL_SECONDS):
            try:
                await sandbox.kill()
            except SandboxUnreachable as error:
                _log.warning("kill_unproven", session=self._session.key.session, detail=error.detail)

    def _prepare(self, sandbox: str, generation: str, token: str) -> None:
        directories = self._context.directories
        for path in (
            directories.sandbox(sandbox),
            directories.home(sandbox),
            directories.socket_directory(sandbox),
            directories.generation_spool(generation),
        ):
            os.makedirs(path, mode=0o700, exist_ok=True)
        descriptor = self._context.disk.open(directories.token(sandbox), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._context.disk.write(descriptor, token.encode())
        finally:
            os.close(descriptor)

    def _spec(self, sandbox: str, generation: str, token: str) -> SandboxSpec:
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
            environment={} if created is None else created.environment,
        )

    def _expected(self, generation: str, token: str, results: int, boot_id: str | None = None) -> Expected:
        settings = self._context.settings
        return Expected(
            generation=generation,
            token=token,
            boot_id=boot_id or settings.boot_id,
            fence=self._session.publisher.fence,
            results=results,
            unclaimed_seconds=settings.unclaimed_seconds,
            seconds=settings.handshake_seconds,
        )

    def _open_results(self, generation: str) -> int:
        return self._context.disk.open(self._context.directories.results(generation), os.O_RDWR | os.O_CREAT)

    # -- finding again ---------------------------------------------------------------------------------------------

    async def _resume(self, started: GenerationStarted) -> None:
        directories = self._context.directories
        await to_thread.run_sync(self._restore_directories, started)
        # Without its token it could never prove itself: it is put down below.
        token = await to_thread.run_sync(_read_token, directories.token(started.sandbox))
        results = self._open_results(started.generation)
        try:
            expected = self._expected(started.generation, token, results, started.boot_id)
            generation = Generation(started.generation, started.sandbox, expected, fresh=False, crew=self._session)
            generation.recorded = True
            self._session.generation = generation
            reason = await self._attach_and_serve(generation, started, token)
        finally:
            os.close(results)
        await self._bury(generation, reason)
        self._busy = False
        self._session.advance_all()

    def _restore_directories(self, started: GenerationStarted) -> None:
        # The runtime directory may have been cleared (a logout), the rest stands.
        directories = self._context.directories
        for path in (
            directories.socket_directory(started.sandbox),
            directories.generation_spool(started.generation),
        ):
            os.makedirs(path, mode=0o700, exist_ok=True)

    async def _attach_and_serve(self, generation: Generation, started: GenerationStarted, token: str) -> str:
        context = self._context
        spec = self._spec(started.sandbox, started.generation, token)
        async with context.listen(context.directories.socket_directory(started.sandbox), generation.serve):
            sandbox = await self._attach(started, spec)
            if sandbox is None:
                return "found_dead"
            generation.sandbox = sandbox
            if not token:
                self.put_down("token_lost")
            else:
                # It dials by itself; should it stay away while something waits, it is put down.
                self._session.advance_all()
            return await self._ended(sandbox)

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
        ending = Ending(
            outcome=Outcome.UNKNOWN,
            effects=Effects.POSSIBLE,
            reason="unreachable",
            message="The sandbox cannot be reached, and its death cannot be proven.",
            generation=generation,
        )
        sent = [event for event in fold.heads() if journal.dispatched(generation, event.id) or not vouched]
        self._session.end_unsent([(event, ending) for event in sent])

    # -- ending ----------------------------------------------------------------------------------------------------

    async def _bury(self, generation: Generation, reason: str) -> None:
        """Close the books of a generation that is over: no process of it lives."""
        session, context = self._session, self._context
        generation.reconciled = False
        generation.hang_up()
        spooled = await to_thread.run_sync(spooled_results, context.directories.results(generation.id))
        vouched = context.journal.vouches(generation.id)
        async with anyio.create_task_group() as endings:
            for event in session.fold.open_actions():
                flight = session.flights.get(event.id)
                if flight is not None and flight.ending:
                    endings.start_soon(flight.done.wait)
                    continue
                noted: Journaled = "unsent" if vouched else "untrusted"
                if flight is not None or context.journal.dispatched(generation.id, event.id):
                    noted = "sent"
                head = session.fold.head(event.lane) is event
                verdict = judge("over", "absent", event.id in spooled, noted, head)
                if verdict == "never_ran" or (verdict == "collect" and noted == "unsent"):
                    continue
                flight = flight or session.dispatcher.reattach(generation, event)
                flight.ending = True
                if verdict == "collect":
                    endings.start_soon(session.collector.collect, generation, flight, spooled[event.id])
                else:
                    endings.start_soon(self._lose, generation, flight, self._epitaph(generation, flight, verdict))
        ended = GenerationEnded(sandbox=generation.sandbox_id, generation=generation.id, reason=self._doom or reason)
        events = await session.publisher.publish([session.publisher.lifecycle("generation_ended", ended)])
        session.floor = max(session.floor, events[-1].position)
        session.generation = None
        self._killing, self._doom = False, ""
        context.journal.forget_generation(generation.id)
        await self._remove(generation.sandbox_id, generation.id, reason)
        self.undecided = False

    def _epitaph(self, generation: Generation, flight: Flight, verdict: str) -> Ending:
        outcome, reason, deadline = Outcome.SANDBOX_LOST, self._doom or "sandbox_lost", None
        message = "The sandbox was lost while this action was under way."
        if verdict == "unknown":
            outcome, reason = Outcome.UNKNOWN, "journal_lost"
            message = "The sandbox is gone, and whether this action was sent to it is not on record any more."
        elif flight.stop == "command":
            outcome, reason, deadline = Outcome.TIMEOUT, "command_deadline", Deadline.COMMAND
            message = "The action server did not end it by its command deadline: its sandbox was ended."
        elif flight.stop == "cancel":
            outcome, reason = Outcome.CANCELLED, "cancelled"
            message = "The action server did not end it when it was cancelled: its sandbox was ended."
        return Ending(
            outcome=outcome,
            effects=Effects.POSSIBLE,
            reason=reason,
            message=message,
            deadline=deadline,
            generation=generation.id,
        )

    async def _remove(self, sandbox: str, generation: str, reason: str) -> None:
        directories = self._context.directories
        for path in (
            directories.generation_spool(generation) if generation else "",
            directories.socket_directory(sandbox),
            directories.sandbox(sandbox),
        ):
            if path:
                await to_thread.run_sync(_remove_tree, path)
        removed = SandboxRemoved(sandbox=sandbox, reason=reason)
        await self._session.publisher.publish([self._session.publisher.lifecycle("sandbox_removed", removed)])
        self._context.sandboxes.discard(sandbox)

    async def _clear_up(self, requested: SandboxRequested) -> None:
        runtime = self._context.runtimes.get(requested.runtime)
        wait = RETRY_SECONDS_MIN
        # The set itself, not a copy: what starts while the runtime looks around must not be swept.
        self._context.sandboxes.discard(requested.sandbox)
        while runtime is not None:
            try:
                await runtime.sweep(self._context.sandboxes)
                break
            except SandboxUnreachable as error:
                _log.warning("sweep_unproven", session=self._session.key.session, detail=error.detail)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)
        await self._remove(requested.sandbox, "", "worker_restarted")
        self._busy = self.undecided = False
        self._session.advance_all()


def _read_token(path: str) -> str:
    try:
        with open(path) as file:
            return file.read(1024)
    except OSError:
        return ""


def _remove_tree(path: str) -> None:
    def open_up(_function: object, name: str, _error: object) -> None:
        # A directory that its owner made unreadable is still ours to remove.
        try:
            os.chmod(os.path.dirname(name), 0o700)
            os.unlink(name)
        except OSError:
            return

    shutil.rmtree(path, onerror=open_up)
