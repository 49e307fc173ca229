"""Deadlines that the worker keeps: of an action's turn, of the session's life, of its idleness.

They stand in the log as UTC instants (an event's time plus seconds); within a process the monotonic clock keeps them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from chronicled.events.clock import parse_time
from chronicled.events.envelope import OBSERVATION, Event
from chronicled.events.kinds.lifecycle import SessionClosed
from chronicled.events.opaque import Opaque
from chronicled.events.outcome import Deadline, Outcome
from chronicled.runtimes.worker.refusal import never_ran
from chronicled.runtimes.worker.timers import Timer

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Deadlines"]

UNDECIDED_SECONDS = 1.0


class Deadlines:
    """The queue deadlines of one session's actions, and its own: life and idle."""

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._context = session.context
        self._queue: dict[str, Timer] = {}
        self._life: Timer | None = None
        self._idle: Timer | None = None
        self._active = session.claim.active_time or session.claim.created.time
        """When a client last asked for something, or an action ended, as the log tells time."""

    def arm_queue(self, event: Event) -> None:
        """Watch the queue deadline of an open action, if it has one."""
        payload = self._context.codec.decode(event)
        seconds: Any = None if isinstance(payload, Opaque) else getattr(payload, "queue_seconds", None)
        seconds = seconds or self._context.settings.queue_seconds
        if seconds:
            self._watch(event, self._left(event, seconds))

    def arm_life(self) -> None:
        """Watch the session's life deadline, if it has one and is open."""
        created = self._session.created
        if created is not None and created.life_seconds and self._session.fold.closed is None:
            left = self._left(self._session.claim.created, created.life_seconds)
            self._life = self._session.later(left, self._on_life)

    def arm_idle(self) -> None:
        """Watch the session's idle deadline, if it has one and is open."""
        created = self._session.created
        if created is not None and created.idle_seconds and self._session.fold.closed is None:
            left = created.idle_seconds - self._since(self._active)
            # Looked at when it passes and not moved at each event: what came meanwhile is seen then.
            self._idle = self._session.later(max(left, 0.0), self._on_idle)

    def note(self, event: Event) -> None:
        """Take notice of an event: a client's, or an action's end, is a sign of life."""
        if event.source == "client" or (event.category == OBSERVATION and event.cause is not None):
            self._active = event.time

    def drop(self, action: str) -> None:
        """Forget the queue deadline of an action that has ended."""
        timer = self._queue.pop(action, None)
        if timer is not None:
            timer.cancel()

    def rest(self) -> None:
        """Forget them all."""
        for timer in (*self._queue.values(), self._life, self._idle):
            if timer is not None:
                timer.cancel()

    def _watch(self, event: Event, seconds: float) -> None:
        self._queue[event.id] = self._session.later(seconds, partial(self._on_queue, event))

    def _on_queue(self, event: Event) -> None:
        if not self._session.never_sent(event.id):
            return
        if self._session.life.undecided:
            # It may have been sent before the crash; look again when that is known.
            self._watch(event, UNDECIDED_SECONDS)
            return
        message = "Its turn did not come within its queue deadline."
        ending = never_ran(Outcome.REJECTED, "queue_deadline", message, Deadline.QUEUE)
        self._session.end_unsent([(event, ending)])

    def _on_life(self) -> None:
        if self._session.fold.closed is None:
            self._session.spawn(partial(self._close, "life_deadline"))

    def _on_idle(self) -> None:
        created, fold = self._session.created, self._session.fold
        if created is None or created.idle_seconds is None or fold.closed is not None:
            return
        if not len(fold) and self._since(self._active) >= created.idle_seconds:
            self._session.spawn(partial(self._close, "idle_deadline"))
        elif len(fold):
            # Something runs or waits: its end is a sign of life, so it cannot pass before that and the whole time.
            self._idle = self._session.later(created.idle_seconds, self._on_idle)
        else:
            self.arm_idle()

    async def _close(self, reason: Literal["life_deadline", "idle_deadline"]) -> None:
        publisher = self._session.publisher
        await publisher.publish([publisher.lifecycle("session_closed", SessionClosed(reason=reason))])

    def _left(self, since: Event, seconds: float) -> float:
        return seconds - self._since(since.time)

    def _since(self, time: str) -> float:
        # The log's time never goes back; a clock that did must not make a deadline longer.
        return max(0.0, (self._context.clock.now_us() - parse_time(time)) / 1e6)
