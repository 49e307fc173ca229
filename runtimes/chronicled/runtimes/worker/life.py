"""The life of a session's sandboxes, one at a time: request, start, serve, bury, remove."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import structlog

from chronicled.events.errors import SandboxStartFailed, SandboxUnreachable
from chronicled.events.kinds.lifecycle import GenerationStarted, SandboxRequested
from chronicled.events.outcome import Deadline, Outcome
from chronicled.runtimes.runtime import Runtime, Sandbox
from chronicled.runtimes.worker.arrival import Arrival
from chronicled.runtimes.worker.birth import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, ended
from chronicled.runtimes.worker.burial import bury, remove_sandbox, unreachable
from chronicled.runtimes.worker.frost import Frost
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.order import Order
from chronicled.runtimes.worker.refusal import never_ran
from chronicled.runtimes.worker.reunion import Reunion

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["SandboxLife"]

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
        self.order = Order(session)
        self.undecided = False
        """What was open at the claim is not reconciled yet: nothing may be taken for never sent."""
        # At once, and not when its tasks begin: a sweep in between must not take the sandbox for an orphan.
        self._requested = self.order.decoded(session.fold.sandbox, SandboxRequested)
        self._started = self.order.decoded(session.fold.generation, GenerationStarted)
        for record in (self._requested, self._started):
            if record is not None:
                self._context.sandboxes.add(record.sandbox)

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

    async def bury(self, runtime: Runtime | None, generation: Generation, reason: str) -> None:
        """Close the books of a generation that is over; see `burial.bury`."""
        await bury(self._session, runtime, generation, self._doom or reason)
        self._killing, self._doom, self.undecided = False, "", False
        self.frost.melt()

    async def _begin(self) -> None:
        failure: SandboxStartFailed | None = None
        for _ in range(self._context.settings.start_attempts):
            try:
                await Arrival(self._session, self).run()
            except SandboxStartFailed as error:
                _log.warning("sandbox_start_failed", session=self._session.key.session, detail=error.detail)
                failure = error
                if not self._session.fold.open_actions():
                    break  # it took so long that all who waited were told
            else:
                failure = None
                break
        self._busy = False
        if failure is not None:
            self.fail(failure)
        self._session.advance_all()

    def fail(self, failure: SandboxStartFailed) -> None:
        """End what waits for a sandbox that could not start; none of it was ever sent anywhere. Idempotent."""
        deadline = Deadline.START if failure.extra.get("deadline") else None
        message = f"The sandbox could not start: {failure.detail}"
        ending = never_ran(Outcome.ERROR, "sandbox_start_failed", message, deadline)
        self._session.end_unsent([(event, ending) for event in self._session.fold.open_actions()])

    async def see_out(self, generation: Generation, sandbox: Sandbox) -> str:
        """Return why it ended; until then, have it go on whenever somebody stops it who is not asked for that."""
        reason = ""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.frost.watch, generation, sandbox)
            reason = await ended(sandbox)
            tasks.cancel_scope.cancel()
        return reason

    async def _resume(self, started: GenerationStarted) -> None:
        await Reunion(self._session, self).run(started)
        self._busy = False
        self._session.advance_all()

    async def _clear_up(self, requested: SandboxRequested) -> None:
        runtime = self._context.runtimes.get(requested.runtime)
        await remove_sandbox(self._session, runtime, requested.sandbox, None, "worker_restarted")
        self._busy = self.undecided = False
        self._session.advance_all()
