"""Trajectories for OpenHands V0: every kind of ours becomes something that 0.62 loads, and says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.golden.examples import example
from tests.unit.formats.logs import Chapter, exported
from tests.unit.formats.v0_schema import check, check_event

from chronicled.events.kinds import actions, observations
from chronicled.events.kinds.files import Git
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import builtin_registry
from chronicled.migrations.formats import openhands_v0


def specs() -> list[Any]:
    """Return the newest version of every kind."""
    registry = builtin_registry()
    return [spec for spec in registry if spec is registry.current(spec.category, spec.kind)]


async def trajectory(chapter: Chapter, data: Path) -> list[dict[str, Any]]:
    """Return what is exported of a chapter, checked."""
    await chapter.write(data)
    events: list[dict[str, Any]] = json.loads(exported(data, openhands_v0.write)[0])
    check(events)
    return events


async def test_every_kind_is_loaded(tmp_path: Path) -> None:
    """An action of every kind, and its end, are events that OpenHands has, with all that it needs and nothing else."""
    chapter = Chapter()
    for spec in specs():
        if spec.category == "action":
            action = chapter.action(spec.kind, example(spec))
            ending = next((each for each in specs() if each.category == "observation" and each.kind == spec.kind), None)
            if ending is not None:
                chapter.end(spec.kind, action, example(ending))
        elif spec.category == "observation" and not spec.terminal:
            chapter.add(spec.category, spec.kind, example(spec))
    events = await trajectory(chapter, tmp_path)
    runnable = [spec for spec in specs() if spec.runnable]
    assert len([event for event in events if "action" in event]) == len([s for s in specs() if s.category == "action"])
    tools = {event["args"]["name"] for event in events if event.get("action") == "call_tool_mcp"}
    assert {"chronicled.git", "chronicled.list", "chronicled.upload"} <= tools
    assert len(runnable) > 10


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("kind", ["run", "read", "edit", "browse", "call_tool_mcp", "download"])
async def test_every_outcome_is_loaded(tmp_path: Path, outcome: Outcome, kind: str) -> None:
    """However an action ended, OpenHands loads it; what never ran is an error there, and no success."""
    by_key = {(spec.category, spec.kind): spec for spec in specs()}
    chapter = Chapter()
    action = chapter.action(kind, example(by_key["action", kind]))
    effects = Effects.NONE if outcome in {Outcome.REJECTED, Outcome.ERROR} else Effects.POSSIBLE
    end = by_key["observation", kind].payload(outcome=outcome, effects=effects, message="why it ended")
    chapter.end(kind, action, end)
    events = await trajectory(chapter, tmp_path)
    assert events[-1]["cause"] == events[-2]["id"]
    if effects == Effects.NONE:
        assert events[-1]["observation"] == "error"
        assert events[-1]["content"] == "why it ended"
    assert events[-1].get("success") is not True or outcome in {Outcome.OK, Outcome.FAILED}


async def test_a_run_says_what_it_said(tmp_path: Path) -> None:
    """Command, output, exit code, directory, time and timeout are found where OpenHands has them."""
    chapter = Chapter()
    run = chapter.action("run", actions.Run(argv=["echo", "a b"], timeout_seconds=3, security_risk="high"))
    end = observations.RunObservation(
        outcome=Outcome.FAILED, effects=Effects.COMPLETE, exit_code=7, output="x\n", working_directory="/w"
    )
    chapter.end("run", run, end)
    asked, seen = await trajectory(chapter, tmp_path)
    assert asked["args"]["command"] == "echo 'a b'"
    assert (asked["timeout"], asked["args"]["security_risk"]) == (3.0, 2)
    assert seen["content"] == "x\n"
    assert seen["extras"]["metadata"]["exit_code"] == 7
    assert seen["extras"]["metadata"]["working_dir"] == "/w"
    assert seen["extras"]["metadata"]["suffix"] == "\n[The command completed with exit code 7.]"
    assert seen["success"] is False
    assert asked["timestamp"] == "2026-01-01T00:00:03.000000"


async def test_a_long_output_is_whole_again(tmp_path: Path) -> None:
    """What an observation shows the head of is exported whole, from its blob; so are long parts of actions."""
    chapter = Chapter()
    text = "line é\n" * 100_000
    digest, code = chapter.blob(text.encode()), chapter.blob(b"print(1)\n" * 10_000)
    cell = actions.RunIpython(code="print(1)\n", blobs={"code": code})
    run = chapter.action("run_ipython", cell)
    end = observations.RunIpythonObservation(
        outcome=Outcome.OK,
        effects=Effects.COMPLETE,
        output="line",
        output_blob=True,
        output_digest=digest,
        truncated=True,
    )
    chapter.end("run_ipython", run, end, blobs=(digest,))
    asked, seen = await trajectory(chapter, tmp_path)
    assert seen["content"] == text
    assert asked["args"]["code"] == seen["extras"]["code"] == "print(1)\n" * 10_000


async def test_what_cannot_be_read_is_an_answer_that_a_replay_passes_by(tmp_path: Path) -> None:
    """An unknown kind, action or not, is an observation with the stored payload, and is counted."""
    chapter = Chapter()
    chapter.raw("action", "acme.probe", 2, b'{"depth":3}')
    chapter.raw("observation", "acme.torn", 1, b'{"half":')
    chapter.action("git", Git(command="status"))
    await chapter.write(tmp_path)
    text, tally = exported(tmp_path, openhands_v0.write)
    events = json.loads(text)
    check(events)
    assert [event.get("observation") for event in events] == ["mcp", "mcp", None]
    assert events[0]["extras"]["arguments"]["original"] == {"depth": 3}
    assert events[1]["content"] == '{"half":'
    assert (tally.opaque, tally.running) == (2, 1)


async def test_condensations_name_what_they_forget(tmp_path: Path) -> None:
    """Events are named by the ids that they have in the trajectory."""
    chapter = Chapter()
    ids = [chapter.action("message", actions.Message(content=str(n))) for n in range(3)]
    chapter.action("condensation", actions.Condensation(forgotten_event_ids=ids[:2]))
    *said, forgot = await trajectory(chapter, tmp_path)
    assert forgot["args"]["forgotten_event_ids"] == [event["id"] for event in said[:2]]


@pytest.mark.parametrize(
    "change",
    [
        {"args": {"command": "x", "is_inputs": True}},
        {"args": {}},
        {"action": "kill"},
        {"source": "client"},
        {"timestamp": "2026-01-01T00:00:00Z"},
        {"args": {"command": "x", "security_risk": 7}},
    ],
)
def test_the_checker_is_as_strict_as_openhands(change: dict[str, Any]) -> None:
    """Negative control: what 0.62 refuses (unknown fields and types, missing ones) the checker refuses too."""
    event: dict[str, Any] = {
        "id": 0,
        "timestamp": "2026-01-01T00:00:00",
        "source": "agent",
        "action": "run",
        "args": {"command": "x"},
    }
    check_event(event)
    with pytest.raises((AssertionError, KeyError)):
        check_event(event | change)


async def test_the_checker_and_our_shapes_name_the_same_fields(tmp_path: Path) -> None:
    """What is written has every field of its class, so that nothing depends on another version's defaults."""
    from tests.unit.formats.v0_schema import ACTIONS

    by_key = {(spec.category, spec.kind): spec for spec in specs()}
    chapter = Chapter()
    for kind in ("run", "run_ipython", "write", "edit", "browse", "message", "system", "think", "recall"):
        payload = example(by_key["action", kind])
        if kind == "edit":
            payload = msgspec.structs.replace(payload, command="create")
        if kind == "write":
            payload = msgspec.structs.replace(payload, encoding="utf-8")
        chapter.action(kind, payload)
    for event in await trajectory(chapter, tmp_path):
        required, optional = ACTIONS[event["action"]]
        assert event["args"].keys() == required.keys() | optional.keys()
