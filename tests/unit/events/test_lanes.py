"""The fold of a session's events into lanes."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.codec import encode_json
from chronicled.events.envelope import Category, Event
from chronicled.events.kinds.actions import Message, Run
from chronicled.events.kinds.lifecycle import (
    CancelRequested,
    GenerationEnded,
    InputSent,
    LaneRestarted,
    SandboxRemoved,
    SandboxRequested,
    SessionClaimed,
    SessionCreated,
)
from chronicled.events.kinds.observations import Progress, RunObservation
from chronicled.events.lanes import SessionFold
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import builtin_registry
from chronicled.events.worker_log import SessionKey

REGISTRY = builtin_registry()
KEY = SessionKey("default", "s")


class Script:
    """Writes events of one session, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, category: Category, kind: str, payload: Any, lane: str = "main", cause: str | None = None) -> Event:
        """Write one event."""
        position = len(self.events) + 1
        raw = msgspec.Raw(encode_json(payload))
        event = Event(
            position, "default", "s", position - 1, f"id-{position}", kind, 1, category, lane, "client", "me", "", raw,
            "", cause,
        )  # fmt: skip
        self.events.append(event)
        return event

    def run(self, lane: str = "main") -> Event:
        """Write a `run`."""
        return self.add("action", "run", Run(command="true"), lane)

    def end(self, action: Event) -> Event:
        """Write the action's terminal observation."""
        payload = RunObservation(outcome=Outcome.OK, effects=Effects.COMPLETE)
        return self.add("observation", "run", payload, action.lane, action.id)

    def fold(self) -> SessionFold:
        """Return the fold of everything written."""
        fold = SessionFold(KEY, REGISTRY)
        fold.extend(self.events)
        return fold


def test_the_head_of_each_lane_runs_and_the_rest_queues() -> None:
    """Status is the fold: head of its lane `running`, behind it `queued`, ended or recorded nothing."""
    script = Script()
    first, second, other = script.run("a"), script.run("a"), script.run("b")
    said = script.add("action", "message", Message(content="hi"))
    script.add("observation", "progress", Progress(), "a", first.id)
    fold = script.fold()
    assert [fold.status(event.id) for event in (first, second, other, said)] == ["running", "queued", "running", None]
    script.end(first)
    fold = script.fold()
    assert fold.status(first.id) is None
    assert fold.head("a") == second
    assert fold.heads() == [second, other]
    assert len(fold) == 2


def test_state_is_lost_for_what_was_accepted_before() -> None:
    """A generation's end concerns every lane, a restarted lane its own; what comes later meets the new state."""
    script = Script()
    before, beside = script.run("a"), script.run("b")
    script.add("lifecycle", "lane_restarted", LaneRestarted(generation="g"), "a")
    after = script.run("a")
    fold = script.fold()
    assert [fold.state_lost(event) for event in (before, beside, after)] == [True, False, False]
    script.add("lifecycle", "generation_ended", GenerationEnded(sandbox="x", generation="g", reason="killed"))
    last = script.run("a")
    fold = script.fold()
    assert [fold.state_lost(event) for event in (before, beside, after, last)] == [True, True, True, False]


def test_losses_are_those_since_the_newest_generation_ended() -> None:
    """What a lane lost in a generation that is over is told by the end of that one: what is kept does not grow."""
    script = Script()
    script.add("lifecycle", "lane_restarted", LaneRestarted(generation="g"), "a")
    ended = script.add("lifecycle", "generation_ended", GenerationEnded(sandbox="x", generation="g", reason="killed"))
    assert script.fold().losses() == (ended,)
    script.add("lifecycle", "lane_restarted", LaneRestarted(generation="h"), "b")
    again = script.add("lifecycle", "lane_restarted", LaneRestarted(generation="h"), "b")
    assert script.fold().losses() == (ended, again)


def test_the_fence_is_the_position_of_the_newest_claim() -> None:
    """In the whole log, so that it rises across sessions; not the place in the session."""
    script = Script()
    script.run()
    first = script.add("lifecycle", "session_claimed", SessionClaimed(worker="w", boot_id="b"))
    assert script.fold().fence == first.position
    second = script.add("lifecycle", "session_claimed", SessionClaimed(worker="w", boot_id="b"))
    script.run()
    fold = SessionFold(KEY, REGISTRY)
    fold.extend(msgspec.structs.replace(event, position=event.position + 100) for event in script.events)
    assert fold.fence == second.position + 100


def test_who_waits_for_input_is_folded_from_the_log() -> None:
    """It waits from a progress that says so until one that does not, something typed, its end or its generation's."""
    script = Script()
    action = script.run()

    def waits(fold: SessionFold) -> bool:
        awaiting = fold.awaiting(action.id)
        assert awaiting is None or awaiting.cause == action.id
        return awaiting is not None

    def progress(needs_input: bool) -> None:
        script.add("observation", "progress", Progress(needs_input=needs_input), "main", action.id)

    assert not waits(script.fold())
    for needs_input in (True, True, False, True):
        progress(needs_input)
        assert waits(script.fold()) is needs_input
    script.add("lifecycle", "input_sent", InputSent(data="x"), "main", action.id)
    assert not waits(script.fold())
    progress(True)
    assert waits(script.fold())
    script.add("lifecycle", "generation_ended", GenerationEnded(sandbox="x", generation="g", reason="killed"))
    assert not waits(script.fold())
    progress(True)
    script.end(action)
    assert not waits(script.fold())


def test_a_sandbox_stands_until_it_is_removed() -> None:
    """The removal of another sandbox does not hide the one that stands."""
    script = Script()
    script.add("lifecycle", "sandbox_requested", SandboxRequested(sandbox="one", runtime="process"))
    script.add("lifecycle", "sandbox_removed", SandboxRemoved(sandbox="other", reason=""))
    assert script.fold().sandbox is not None
    script.add("lifecycle", "sandbox_removed", SandboxRemoved(sandbox="one", reason=""))
    assert script.fold().sandbox is None


STEPS = st.lists(st.sampled_from(["run a", "run b", "end", "cancel", "loss", "restart"]), max_size=30)


@given(STEPS)
def test_a_claim_carries_the_whole_fold(steps: list[str]) -> None:
    """The fold that a worker makes of its claim judges every action as the log's own fold does."""
    script = Script()
    script.add("lifecycle", "session_created", SessionCreated(runtime="process"))
    for step in steps:
        fold = script.fold()
        if step.startswith("run"):
            script.run(step[4:])
        elif step == "end" and fold.heads():
            script.end(fold.heads()[0])
        elif step == "cancel" and len(fold):
            last = fold.open_actions()[-1]
            script.add("lifecycle", "cancel_requested", CancelRequested(), last.lane, last.id)
        elif step == "loss":
            ended = GenerationEnded(sandbox="x", generation="g", reason="killed")
            script.add("lifecycle", "generation_ended", ended)
        elif step == "restart":
            script.add("lifecycle", "lane_restarted", LaneRestarted(generation="g"), "a")
    fold = script.fold()
    copy = SessionFold.of_claim(fold.claim(len(script.events) + 1), REGISTRY)
    assert copy.open_actions() == fold.open_actions()
    assert {head.id for head in copy.heads()} == {head.id for head in fold.heads()}
    assert copy.losses() == fold.losses()
    for event in fold:
        assert copy.state_lost(event) == fold.state_lost(event)
        assert copy.requests(event.id) == fold.requests(event.id)
        assert copy.cancel_requested(event.id) == fold.cancel_requested(event.id)
