"""Deadlines that the worker keeps: of an action's turn, and of the session's life.

They stand in the log as UTC instants (an event's time plus seconds); within a process the monotonic clock keeps them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from chronicled.events.clock import parse_time
from chronicled.events.codec import Opaque
from chronicled.events.envelope import Event
from chronicled.events.kinds.lifecycle import SessionClosed
from chronicled.events.outcome import Deadline, Outcome
from chronicled.runtimes.worker.refusal import never_ran
from chronicled.runtimes.worker.timers import Timer

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Deadlines"]

UNDECIDED_SECONDS = 1.0


class Deadlines:
    """The queue deadlines of one session's actions, and its life deadline."""

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._context = session.context
        self._queue: dict[str, Timer] = {}
        self._life: Timer | None = None

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

    def drop(self, action: str) -> None:
        """Forget the queue deadline of an action that has ended."""
        timer = self._queue.pop(action, None)
        if timer is not None:
            timer.cancel()

    def rest(self) -> None:
        """Forget them all."""
        for timer in (*self._queue.values(), self._life):
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
            self._session.spawn(self._close)

    async def _close(self) -> None:
        publisher = self._session.publisher
        await publisher.publish([publisher.lifecycle("session_closed", SessionClosed(reason="life_deadline"))])

    def _left(self, since: Event, seconds: float) -> float:
        # The log's time never goes back; a clock that did must not make a deadline longer.
        return seconds - max(0.0, (self._context.clock.now_us() - parse_time(since.time)) / 1e6)
