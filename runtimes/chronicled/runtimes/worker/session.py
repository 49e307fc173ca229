"""One session under this worker: its fold, what is sent to its sandbox, and what that leads to.

All decisions are made in plain functions on the event loop, so nothing comes between a decision and its record; only
publishing, output and the sandbox's life are tasks, all of them in the session's own task group.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup

from chronicled.events.envelope import ACTION, LIFECYCLE, Event
from chronicled.events.errors import StorageFull
from chronicled.events.ids import is_name
from chronicled.events.kinds.lifecycle import BackgroundOutput, GenerationStarted, SessionCreated
from chronicled.events.lanes import SessionFold
from chronicled.events.registry import Registry
from chronicled.events.worker_log import Claim, SessionKey
from chronicled.runtimes.action_server.frames import (
    Background,
    Cancel,
    Output,
    Result,
    Settle,
    Status,
    ToWorker,
    Waiting,
)
from chronicled.runtimes.worker.background import BackgroundTeller
from chronicled.runtimes.worker.context import Context
from chronicled.runtimes.worker.deadlines import Deadlines
from chronicled.runtimes.worker.dispatch import Dispatcher
from chronicled.runtimes.worker.ending import Collector
from chronicled.runtimes.worker.environment import CHANGING, SessionEnvironment
from chronicled.runtimes.worker.flight import Flight
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.life import SandboxLife
from chronicled.runtimes.worker.observation import Ending
from chronicled.runtimes.worker.publisher import Publisher
from chronicled.runtimes.worker.refusal import refusal
from chronicled.runtimes.worker.timers import Timer

__all__ = ["SessionWorker"]

ID_CHARS_MAX: Final = 64
BACKGROUND_BYTES_MAX: Final = 1 << 50
"""Most that is believed of what background jobs have printed since they were last heard of."""
BATCH_MAX: Final = 200
SWEEPING: Final = frozenset({"session_closed", "generation_ended", "lane_restarted"})

_log = structlog.get_logger("chronicled.worker")


class SessionWorker:
    """Runs the actions of one claimed session, until it is closed, drained, or cannot go on.

    Args:
        context: What the worker's sessions share.
        claim: The hold on the session, and the fold of its log at that moment.
    """

    def __init__(self, context: Context, claim: Claim) -> None:
        self.context = context
        self.key: SessionKey = claim.key
        self.claim = claim
        self.fold = SessionFold.of_claim(claim, context.codec.registry)
        self.publisher = Publisher(context, claim.key, claim.fence)
        self.generation: Generation | None = None
        self.flights: dict[str, Flight] = {}
        """Actions that were sent and have not ended, by id."""
        self.floor = 0
        """Nothing is sent before the fold has passed this position: a loss of state stands there."""
        self.ended_unheard: dict[str, str] = {}
        """Actions (with their lanes) that were ended here without their result: it would be late."""
        self.environment = SessionEnvironment(self)
        self.life = SandboxLife(self)
        self.dispatcher = Dispatcher(self)
        self.collector = Collector(self)
        self.deadlines = Deadlines(self)
        created = context.codec.decode(claim.created)
        self.created: SessionCreated | None = created if isinstance(created, SessionCreated) else None
        self._tasks: TaskGroup | None = None
        self._ending: set[str] = set()
        self._touched: set[str] = set()
        self._cancelled: list[Event] = []
        self._whole = False
        self._absence: Timer | None = None
        self._over = anyio.Event()
        self._failure: Exception | None = None
        self._draining = False
        self._background = BackgroundTeller(
            context.clock, self.later, self._tell_background, self.spawn, self._redact_background
        )

    # -- life of the session ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile, then run what is open and what comes, until the session is over or drained.

        Raises:
            StaleFence: another worker has claimed the session.
            StoreFailed: the log has failed.
            Exception: whatever else made going on impossible; a new claim starts over from the log.

        Cancellation: safe, as a crash is; sandboxes live on.
        """
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                self.deadlines.arm_life()
                self.deadlines.arm_idle()
                await self.environment.load()
                for event in self.fold:
                    self.deadlines.arm_queue(event)
                self.life.take_up()
                self.advance_all()
                await self._over.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._tasks = None
            self.deadlines.rest()
            self._present()
            self.dispatcher.contents.close()
            for flight in self.flights.values():
                flight.rest()
                flight.pump.stop()
        if self._failure is not None:
            raise self._failure

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` among the session's tasks; after the session's end it is not run any more."""
        if self._tasks is not None:
            self._tasks.start_soon(work)

    def later(self, seconds: float, act: Callable[[], None]) -> Timer:
        """Have `act` called in `seconds`; what it raises ends the session's run, not the worker."""

        def guarded() -> None:
            try:
                act()
            except Exception as error:
                self.on_failure(error)

        return self.context.timers.after(seconds, guarded)

    def on_failure(self, error: Exception) -> None:
        """Stop working on the session with this error."""
        if self._failure is None:
            self._failure = error
        self._over.set()

    async def drain(self) -> None:
        """Send nothing more, publish the results that are here, then end `run`; the sandbox lives on."""
        self._draining = True
        for flight in list(self.flights.values()):
            if flight.ending:
                await flight.done.wait()
        if self.fold.closed is not None and not len(self.fold):
            # Its sandbox is being ended: half of that would leave a dead one for the next worker to clear up.
            await self._over.wait()
        self._over.set()

    # -- what the log says -----------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Fold the session's next event; `settle_up` acts on it, once all events of its commit are folded."""
        if event.position <= self.fold.position:
            return
        action = None if event.cause is None else self.fold.find(event.cause)
        self.fold.apply(event)
        self.deadlines.note(event)
        if event.category == ACTION:
            if self.fold.find(event.id) is not None:
                self._touched.add(event.lane)
                self.deadlines.arm_queue(event)
        elif action is not None:
            self._touched.add(action.lane)
            if event.kind == "cancel_requested":
                self._cancelled.append(action)
            if self.fold.find(action.id) is None:
                self._on_ended(action)
        elif event.category == LIFECYCLE:
            # A close, or a loss of state: every lane is concerned, and all that queues in it.
            self._whole = self._whole or event.kind in SWEEPING
            if event.kind in CHANGING:
                self.environment.change()

    def settle_up(self) -> None:
        """Do what the events taken since the last call ask for."""
        if self._whole:
            self.advance_all()
        else:
            for lane in self._touched:
                self.advance(lane)
            self._refuse(event for event in self._cancelled if self.fold.find(event.id) is not None)
            if self.fold.closed is not None:
                self._close_if_done()
        if self.fold.asks:
            self.life.heed()
        self._whole = False
        self._touched.clear()
        self._cancelled.clear()

    def _on_ended(self, action: Event) -> None:
        self._ending.discard(action.id)
        self.deadlines.drop(action.id)
        self.dispatcher.forget(action.id)
        flight = self.flights.get(action.id)
        if flight is not None and not flight.ending:
            # Somebody else ended it: it must not go on, and what the server still says of it is late.
            if self.generation is not None:
                self.generation.send(Cancel(action=action.id))
            self.land(flight, heard=False)
        self.context.board.end((self.key.tenant, self.key.session, action.id))

    def land(self, flight: Flight, *, heard: bool) -> None:
        """Forget a flight, whose terminal observation is in the log."""
        flight.rest()
        flight.pump.stop()
        self.flights.pop(flight.event.id, None)
        flight.done.set()
        if self.fold.find(flight.event.id) is not None:
            # Its end is in the log, and not here yet: until then it must not be taken for one that was never sent.
            self._ending.add(flight.event.id)
        if not heard:
            self.ended_unheard[flight.event.id] = flight.event.lane

    # -- what is done about it -------------------------------------------------------------------------------------

    def advance_all(self) -> None:
        """Look at every lane, and at all that queues in them."""
        self._refuse(self.fold.open_actions())
        for head in self.fold.heads():
            self.advance(head.lane)
        if self.fold.closed is not None:
            self._close_if_done()

    def advance(self, lane: str) -> None:
        """Do what can be done for the lane's head now: end it, send it, pass on what was asked of it."""
        head = self.fold.head(lane)
        if head is None or self._draining or self._tasks is None:
            return
        flight = self.flights.get(head.id)
        if flight is not None:
            self.dispatcher.pass_on(flight)
            return
        self._refuse([head])
        if head.id in self._ending:
            return
        if self._may_send:
            self._send(head)
        elif self.life.undecided and self.generation is not None:
            self._watch_absence(self.generation)

    @property
    def _may_send(self) -> bool:
        # What was open at the claim may have been sent by the worker before: reconcile comes first.
        return not self.life.undecided and self.fold.position >= self.floor and self.environment.settled

    def _refuse(self, events: Iterable[Event]) -> None:
        if self._draining or not self._may_send:
            return
        refused: list[tuple[Event, Ending]] = []
        for event in events:
            if event.id not in self.flights and event.id not in self._ending:
                ending = refusal(self.fold, self.context.codec, event)
                if ending is not None:
                    refused.append((event, ending))
        self.end_unsent(refused)

    def never_sent(self, action: str) -> bool:
        """Tell whether the action is open, was not sent, and is not being ended."""
        return self.fold.find(action) is not None and action not in self.flights and action not in self._ending

    def end_unsent(self, endings: Sequence[tuple[Event, Ending]]) -> None:
        """End actions that were never sent."""
        fresh = [(event, ending) for event, ending in endings if event.id not in self._ending]
        self._ending.update(event.id for event, _ in fresh)
        for start in range(0, len(fresh), BATCH_MAX):
            self.spawn(partial(self.publisher.end_each, fresh[start : start + BATCH_MAX]))

    def _send(self, head: Event) -> None:
        generation = self.generation
        if generation is None:
            self.life.want()
        elif self.life.doomed:
            return  # it is being ended: the next one takes it, or nobody
        elif self.life.frost.frozen:
            self.life.heed()
        elif not generation.ready:
            self._watch_absence(generation)
        elif (ending := generation.unable(self.registry.name(ACTION, head.kind, head.version))) is not None:
            self.end_unsent([(head, ending)])
        elif self.dispatcher.has_parts(head):
            try:
                self.dispatcher.send(generation, head)
            except StorageFull as error:
                _log.warning("dispatch_waits", session=self.key.session, detail=error.detail)
                self.later(0.5, partial(self.advance, head.lane))

    def _close_if_done(self) -> None:
        if len(self.fold):
            return
        if self.life.idle:
            self._over.set()
        else:
            self.life.put_down("session_closed")

    # -- what the action server says -------------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """The kinds that are known here."""
        return self.context.codec.registry

    def on_frame(self, generation: Generation, frame: ToWorker) -> None:
        """Take a frame of the generation; everything in it is checked."""
        try:
            self._on_frame(generation, frame)
        except Exception as error:
            self.on_failure(error)

    def _on_frame(self, generation: Generation, frame: ToWorker) -> None:
        if isinstance(frame, Output):
            flight = self.flights.get(frame.action)
            if flight is not None and not flight.ending:
                flight.pump.notice(frame.size)
                self.start_pump(flight)
        elif isinstance(frame, Result):
            self._on_result(generation, frame)
        elif isinstance(frame, Waiting):
            flight = self.flights.get(frame.action)
            if flight is not None and not flight.ending:
                flight.pump.await_input(frame.waiting)
                self.start_pump(flight)
        elif isinstance(frame, Background) and is_name(frame.lane):
            self._background.add(frame.lane, frame.data, min(max(0, frame.size), BACKGROUND_BYTES_MAX))

    def _on_result(self, generation: Generation, result: Result) -> None:
        flight = self.flights.get(result.action)
        action = self.fold.find(result.action)
        if flight is None and action is not None and self.dispatcher.may_have_sent(generation, action):
            flight = self.dispatcher.reattach(generation, action)
        if flight is not None:
            if not flight.ending:
                flight.ending = True
                self.spawn(lambda: self.collector.collect(generation, flight, result))
        elif action is None and len(result.action) <= ID_CHARS_MAX:
            # Its observation is in the log already; if it came from elsewhere, this one is late.
            generation.send(Settle(action=result.action))
            lane = self.ended_unheard.pop(result.action, None)
            if lane is not None:
                detail = result.message or ""
                self.spawn(lambda: self.publisher.late_result(result.action, lane, result.outcome, detail))

    def on_status(self, generation: Generation, status: Status) -> None:
        """Compare what the server knows with what is open, then go on."""
        try:
            # What was sent over an earlier link may not have arrived.
            self.environment.tell(generation, anew=True)
            self.dispatcher.reconcile(generation, status)
            self._present()
            self.advance_all()
        except Exception as error:
            self.on_failure(error)

    def _present(self) -> None:
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None

    @property
    def pausable(self) -> bool:
        """Whether the session's runtime can pause a sandbox."""
        runtime = None if self.created is None else self.context.runtimes.get(self.created.runtime)
        return runtime is not None and runtime.pauses

    @property
    def generation_id(self) -> str | None:
        """The generation that the log says lives, or None."""
        started = self.fold.generation
        payload = None if started is None else self.context.codec.decode(started)
        return payload.generation if isinstance(payload, GenerationStarted) else None

    def on_absence(self, generation: Generation) -> None:
        """Learn that the link is gone: the server dials again, or is put down after a while."""
        for flight in self.flights.values():
            flight.cancelled = False
        if generation is self.generation and self.flights:
            self._watch_absence(generation)

    def _watch_absence(self, generation: Generation) -> None:
        if self._absence is None:
            seconds = self.context.settings.unreachable_seconds
            self._absence = self.later(seconds, partial(self._give_up, generation))

    def _give_up(self, generation: Generation) -> None:
        self._absence = None
        if generation is self.generation and not generation.ready and len(self.fold):
            if generation.sandbox is None:
                self._watch_absence(generation)  # it is being looked for, by its runtime
            else:
                self.life.put_down("unreachable")

    def start_pump(self, flight: Flight) -> None:
        """Have the flight's output followed."""
        if not flight.pumping:
            flight.pumping = True
            self.spawn(flight.pump.run)

    def _redact_background(self, data: bytes, head: bool, tail: bool) -> bytes:
        return self.context.redaction.fragment(self.key.tenant, self.key.session, data, head=head, tail=tail)

    async def _tell_background(self, lane: str, payload: BackgroundOutput) -> None:
        await self.publisher.publish([self.publisher.lifecycle("background_output", payload, lane=lane)])
