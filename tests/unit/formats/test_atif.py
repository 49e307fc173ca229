"""ATIF trajectories are valid, whatever a session holds, and say what was asked, what came of it, and what did not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.examples import example
from tests.unit.formats.atif_schema import check
from tests.unit.formats.logs import Chapter, exported

from chronicled.events.kinds import actions, observations
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import builtin_registry
from chronicled.migrations.formats import atif


async def trajectory(chapter: Chapter, data: Path) -> dict[str, Any]:
    """Return what is exported of a chapter, checked."""
    await chapter.write(data)
    found: dict[str, Any] = json.loads(exported(data, atif.write)[0])
    check(found)
    return found


async def test_every_kind_is_valid(tmp_path: Path) -> None:
    """A session with an event of every kind is a trajectory; only lifecycle and progress have no place."""
    registry = builtin_registry()
    chapter = Chapter()
    for spec in registry:
        if spec is registry.current(spec.category, spec.kind) and spec.category != "lifecycle":
            chapter.add(spec.category, spec.kind, example(spec), cause=chapter.id() if spec.terminal else None)
    await chapter.write(tmp_path)
    text, tally = exported(tmp_path, atif.write)
    check(json.loads(text))
    assert tally.left_out == {"session_created": 1, "progress": 1}


async def test_an_action_and_its_end_are_one_step(tmp_path: Path) -> None:
    """The result stands beside its call, the agent's words before it; the agent is named by its system prompt."""
    chapter = Chapter()
    tools = [{"type": "function", "function": {"name": "run"}}]
    chapter.action("system", actions.System(content="prompt", agent="CodeAct", agent_version="1", tools=tools))
    chapter.action("message", actions.Message(content="hello", role="user", image_urls=["https://example.org/a.png"]))
    run = chapter.action("run", actions.Run(command="ls", thought="look around"))
    think = chapter.action("think", actions.Think(thought="hm"))
    end = observations.RunObservation(outcome=Outcome.OK, effects=Effects.COMPLETE, exit_code=0, output="a\n")
    chapter.end("run", run, end)
    chapter.action("finish", actions.Finish(final_thought="done"))
    found = await trajectory(chapter, tmp_path)
    assert found["agent"] == {"name": "CodeAct", "version": "1", "tool_definitions": tools}
    system, user, ran, thought, finish = found["steps"]
    assert (system["source"], user["source"], user["message"]) == ("system", "user", "hello")
    assert ran["message"] == "look around"
    assert ran["tool_calls"][0] == {"tool_call_id": run, "function_name": "run", "arguments": {"command": "ls"}}
    (result,) = ran["observation"]["results"]
    assert (result["content"], result["source_call_id"], result["extra"]["exit_code"]) == ("a\n", run, 0)
    assert (thought["reasoning_content"], thought["extra"]["id"]) == ("hm", think)
    assert finish["message"] == "done"


async def test_what_runs_has_no_result(tmp_path: Path) -> None:
    """An action without an end says that it had not ended, and is counted."""
    chapter = Chapter()
    chapter.action("run", actions.Run(command="sleep 9"))
    found = await trajectory(chapter, tmp_path)
    (step,) = found["steps"]
    assert "observation" not in step
    assert "not ended" in step["extra"]["status"]
    assert found["extra"]["running"] == 1


async def test_a_long_output_is_whole(tmp_path: Path) -> None:
    """The text of a blob stands in the result."""
    chapter = Chapter()
    run = chapter.action("run", actions.Run(command="seq"))
    digest = chapter.blob(b"0123456789" * 100_000)
    end = observations.RunObservation(
        outcome=Outcome.OK, effects=Effects.COMPLETE, output="0", output_blob=True, output_digest=digest
    )
    chapter.end("run", run, end, blobs=(digest,))
    found = await trajectory(chapter, tmp_path)
    assert found["steps"][0]["observation"]["results"][0]["content"] == "0123456789" * 100_000


async def test_an_end_whose_action_lies_before_stands_alone(tmp_path: Path) -> None:
    """An export that begins behind an action has its end as a step of the system: a result stands by its call."""
    chapter = Chapter()
    run = chapter.action("run", actions.Run(command="x"))
    chapter.end("run", run, observations.RunObservation(outcome=Outcome.OK, effects=Effects.COMPLETE, output="y"))
    await chapter.write(tmp_path)
    found = json.loads(exported(tmp_path, atif.write, after=2)[0])
    check(found)
    (step,) = found["steps"]
    assert (step["source"], step["extra"]["cause"]) == ("system", run)


async def test_what_cannot_be_read_is_a_step_of_the_system(tmp_path: Path) -> None:
    """The stored payload is its message, and the reason stands beside it."""
    chapter = Chapter()
    chapter.raw("action", "acme.probe", 2, b'{"depth":3}')
    found = await trajectory(chapter, tmp_path)
    (step,) = found["steps"]
    assert step["message"] == '{"depth":3}'
    assert step["extra"]["opaque"]
    assert found["extra"]["opaque"] == 1


async def test_a_session_without_steps_has_one(tmp_path: Path) -> None:
    """The format wants a step, so that an empty session says that it is one."""
    found = await trajectory(Chapter(), tmp_path)
    assert len(found["steps"]) == 1


WRONG: list[dict[str, Any]] = [
    {"steps": []},
    {"agent": {"name": "x"}},
    {"other": 1},
    {"steps": [{"step_id": 2, "source": "user", "message": ""}]},
    {"steps": [{"step_id": 1, "source": "user", "message": "", "tool_calls": []}]},
    {
        "steps": [
            {"step_id": 1, "source": "agent", "message": "", "observation": {"results": [{"source_call_id": "x"}]}}
        ]
    },
]


@pytest.mark.parametrize("change", WRONG)
def test_the_checker_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    """Negative control: each rule of the format is one."""
    valid: dict[str, Any] = {
        "schema_version": "ATIF-v1.7",
        "agent": {"name": "a", "version": "1"},
        "steps": [{"step_id": 1, "source": "user", "message": ""}],
    }
    check(valid)
    with pytest.raises(AssertionError):
        check(valid | change)
