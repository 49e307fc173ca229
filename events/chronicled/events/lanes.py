"""The fold of one session's events: what is open, in which lane, behind whom, and what of the sandbox stands.

Pure and total: the daemon folds the status that it tells from it, a worker what it has to do. Nothing is stored twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Event
from chronicled.events.kinds.lifecycle import IMPORTED
from chronicled.events.registry import Registry
from chronicled.events.worker_log import Claim, SessionKey

__all__ = ["REQUESTS", "SessionFold"]

REQUESTS: Final = frozenset({"cancel_requested", "interrupt_requested", "input_sent"})
"""Lifecycle kinds that ask something of an open action; their `cause` names it."""


_STANDING: Final = frozenset(
    {"pause_requested", "resume_requested", "restart_requested", "sandbox_paused", "sandbox_resumed"}
)


class _Named(msgspec.Struct, frozen=True):
    # The two ids by which sandbox events name what they are about; read leniently, whatever the version.
    sandbox: str = ""
    generation: str = ""


class _Created(msgspec.Struct, frozen=True):
    # Of a `session_created`, read leniently.
    runtime: str = ""


class _Said(msgspec.Struct, frozen=True):
    # Of a `progress`, read leniently.
    needs_input: bool = False


class SessionFold:
    """What the events of one session add up to, up to `position`.

    Only the head of a lane is ever sent to a sandbox, so it alone may be running. An action of a kind that is not known
    here is not runnable: it is recorded, and becomes open when a registry that knows the kind folds the log again.

    Args:
        key: The session.
        registry: Tells which actions are runnable, and which observations end them.
    """

    def __init__(self, key: SessionKey, registry: Registry) -> None:
        self.key = key
        self.position = 0
        self.created: Event | None = None
        self.closed: Event | None = None
        self.sandbox: Event | None = None
        self.generation: Event | None = None
        self.pause: Event | None = None
        """The newest `pause_requested` that nothing has come after: no resume, no new action, no end."""
        self.restart: Event | None = None
        """The newest `restart_requested` about the sandbox that is there or on its way."""
        self.paused: Event | None = None
        """The newest `sandbox_paused` of a sandbox that was not resumed."""
        self.begun: Event | None = None
        """The newest `generation_started`, over or not: what the image's name stood for is told there."""
        self.finished: Event | None = None
        """The `generation_ended` of that one, if it is over."""
        self.secret: Event | None = None
        """The newest `secret_registered`: without the session's secrets nothing of it may be published."""
        self.fence = 0
        self.imported = False
        """Whether it came from another system's log: closed from its first event, and no action of it is ever open."""
        self.newer: Event | None = None
        """The first event that only a newer version of this program understands, and that may decide about work: what
        is open here may have ended, or may not run. Then nothing of the session is touched, rather than guessed."""
        self._registry = registry
        self._open: OrderedDict[str, Event] = OrderedDict()
        self._lanes: dict[str, OrderedDict[str, Event]] = {}
        self._requests: dict[str, list[Event]] = {}
        self._awaiting: dict[str, Event] = {}
        """By action, the newest `progress` that says it waits for somebody to type, until somebody has."""
        self._ended: Event | None = None
        self._restarted: dict[str, Event] = {}

    @classmethod
    def of_claim(cls, claim: Claim, registry: Registry) -> SessionFold:
        """Return the fold as it stood at the claim."""
        fold = cls(claim.key, registry)
        known = (
            claim.created,
            claim.closed,
            claim.sandbox,
            claim.generation,
            *claim.losses,
            *claim.open_actions,
            *claim.requests,
            *claim.standing,
        )
        for event in sorted((event for event in known if event is not None), key=lambda event: event.position):
            fold.apply(event)
        fold.position = fold.fence = claim.fence
        return fold

    def claim(self, fence: int) -> Claim:
        """Return what a worker that claims the session at position `fence` is told.

        Raises:
            ValueError: the fold has not seen the session's `session_created`.
        """
        if self.created is None:
            raise ValueError(f"the fold of {self.key} begins behind its creation")
        requests = sorted((event for some in self._requests.values() for event in some), key=lambda each: each.position)
        return Claim(
            key=self.key,
            fence=fence,
            created=self.created,
            generation=self.generation,
            sandbox=self.sandbox,
            closed=self.closed,
            open_actions=tuple(self._open.values()),
            requests=tuple(requests),
            losses=self.losses(),
            standing=self.standing(),
        )

    def apply(self, event: Event) -> None:
        """Take the session's next event; one that was taken already (by position) changes nothing."""
        if event.position <= self.position:
            return
        self.position = event.position
        if self.imported:
            return
        if event.category == ACTION:
            spec = self._registry.find_current(ACTION, event.kind, event.version)
            if spec is not None and spec.runnable:
                self.pause = None
                self._open[event.id] = event
                self._lanes.setdefault(event.lane, OrderedDict())[event.id] = event
        elif event.category == OBSERVATION:
            spec = self._registry.find_current(OBSERVATION, event.kind, event.version)
            if spec is None:
                if event.cause in self._open:  # its action's end, under a name that is not known here?
                    self.newer = self.newer or event
            elif spec.terminal and event.cause is not None:
                self._end(event.cause)
            elif event.kind == "progress" and event.cause in self._open:
                self._note_progress(event, event.cause or "")
        else:
            self._apply_lifecycle(event)

    def extend(self, events: Iterable[Event]) -> None:
        """Take several events in order."""
        for event in events:
            self.apply(event)

    def _end(self, action: str) -> None:
        event = self._open.pop(action, None)
        if event is None:
            return
        self._requests.pop(action, None)
        self._awaiting.pop(action, None)
        lane = self._lanes[event.lane]
        del lane[action]
        if not lane:
            del self._lanes[event.lane]

    def _apply_lifecycle(self, event: Event) -> None:
        kind = event.kind
        if self._registry.find(LIFECYCLE, kind, event.version) is None and "." not in kind:
            # Lifecycle kinds are ours, so a newer version of this program wrote it.
            self.newer = self.newer or event
        if kind in REQUESTS:
            if event.cause in self._open:
                self._requests.setdefault(event.cause or "", []).append(event)
                # What was typed is what it waited for; if it waits for more, it is told again.
                if kind == "input_sent":
                    self._awaiting.pop(event.cause or "", None)
        elif kind == "session_created":
            self.created = event
            if _created(event).runtime == IMPORTED:
                self.imported, self.closed = True, event
        elif kind == "session_closed":
            self.closed = event
        elif kind == "session_claimed":
            self.fence = event.position
        elif kind in _STANDING:
            self._apply_standing(event)
        elif kind == "secret_registered":
            self.secret = event
        elif kind == "sandbox_requested":
            self.sandbox = event
        elif kind == "sandbox_removed":
            if self.sandbox is not None and _named(self.sandbox).sandbox == _named(event).sandbox:
                self.sandbox = self.restart = self.paused = None
        elif kind == "generation_started":
            self.generation = self.begun = event
            self.finished = None
        elif kind == "generation_ended":
            if self.generation is not None and _named(self.generation).generation == _named(event).generation:
                self.generation = self.restart = self.paused = None
                self.finished = event
            self._note_loss(event)
        elif kind == "lane_restarted":
            self._note_loss(event)

    def _note_progress(self, event: Event, action: str) -> None:
        if _said(event).needs_input:
            self._awaiting[action] = event
        else:
            self._awaiting.pop(action, None)

    def _note_loss(self, event: Event) -> None:
        if event.kind == "generation_ended":
            self._ended = event
            self._restarted.clear()
            self._awaiting.clear()
        else:
            self._restarted[event.lane] = event

    def _apply_standing(self, event: Event) -> None:
        match event.kind:
            case "pause_requested":
                self.pause = event
            case "resume_requested":
                self.pause = None
            case "restart_requested":
                # Without a sandbox there is nothing to end: the next one is new anyway.
                self.restart = event if self.sandbox is not None else None
            case "sandbox_paused":
                self.paused = event
            case _:
                self.paused = None

    @property
    def asks(self) -> bool:
        """Whether something is asked of the sandbox itself, or it stands still."""
        return self.pause is not None or self.restart is not None or self.paused is not None

    @property
    def over(self) -> bool:
        """Whether the session is closed, and has neither sandbox nor open actions: nothing is left to do in it."""
        return self.closed is not None and self.sandbox is None and self.generation is None and not self._open

    def standing(self) -> tuple[Event, ...]:
        """Return what was asked of the session or done to its sandbox and still holds, in position order."""
        # Without its end the newest generation would be taken for a living one, where that of another came behind it.
        finished = None if self.finished is self._ended else self.finished
        standing = (self.begun, finished, self.pause, self.restart, self.paused, self.secret)
        known = [event for event in standing if event is not None]
        return tuple(sorted(known, key=lambda event: event.position))

    def losses(self) -> tuple[Event, ...]:
        """Return the newest `generation_ended` and the `lane_restarted` behind it, in position order."""
        known = [event for event in (self._ended, *self._restarted.values()) if event is not None]
        return tuple(sorted(known, key=lambda event: event.position))

    def state_lost(self, action: Event) -> bool:
        """Tell whether the generation, or the lane's shell, was lost after the action was accepted."""
        if self._ended is not None and action.position < self._ended.position:
            return True
        restarted = self._restarted.get(action.lane)
        return restarted is not None and action.position < restarted.position

    def find(self, action: str) -> Event | None:
        """Return the open action of that id, or None."""
        return self._open.get(action)

    def status(self, action: str) -> Literal["queued", "running"] | None:
        """Return what an open action does: the head of a lane runs (or is about to); None when it is not open."""
        event = self._open.get(action)
        if event is None:
            return None
        return "running" if next(iter(self._lanes[event.lane])) == action else "queued"

    def head(self, lane: str) -> Event | None:
        """Return the first open action of the lane, or None."""
        queue = self._lanes.get(lane)
        return None if queue is None else next(iter(queue.values()))

    def heads(self) -> list[Event]:
        """Return the first open action of every lane."""
        return [next(iter(queue.values())) for queue in self._lanes.values()]

    def open_actions(self) -> list[Event]:
        """Return every open action in position order."""
        return list(self._open.values())

    def lane(self, lane: str) -> list[Event]:
        """Return the open actions of the lane in position order."""
        queue = self._lanes.get(lane)
        return [] if queue is None else list(queue.values())

    def requests(self, action: str) -> tuple[Event, ...]:
        """Return what was asked of the open action, in position order."""
        return tuple(self._requests.get(action, ()))

    def awaiting(self, action: str) -> Event | None:
        """Return the event that says the open action waits for somebody to type; None when it does not."""
        return self._awaiting.get(action)

    def cancel_requested(self, action: str) -> bool:
        """Tell whether somebody wants the open action ended."""
        return any(event.kind == "cancel_requested" for event in self._requests.get(action, ()))

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._open.values())


def _named(event: Event) -> _Named:
    try:
        return msgspec.json.decode(event.payload, type=_Named)
    except (ValueError, RecursionError):  # whatever its bytes are
        return _Named()


def _created(event: Event) -> _Created:
    try:
        return msgspec.json.decode(event.payload, type=_Created)
    except (ValueError, RecursionError):  # whatever its bytes are
        return _Created()


def _said(event: Event) -> _Said:
    try:
        return msgspec.json.decode(event.payload, type=_Said)
    except (ValueError, RecursionError):  # whatever its bytes are
        return _Said()
