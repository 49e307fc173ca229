"""Every event of the agent SDK, of every release that changed it, opens; what ended has ended, and once."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from tests.unit.agent_sdk.records import FOLDERS, action, convert, made_of, observation, plain, values_of

from chronicled.events.codec import Codec
from chronicled.events.envelope import ACTION
from chronicled.migrations.conversion import Ids, Original
from chronicled.migrations.openhands.v1.course import OpenHandsV1
from chronicled.migrations.vocabulary import vocabulary

WORDS = vocabulary()
IDS = Ids("default", "s")


def check(values: list[Any]) -> None:
    """Assert what holds of every conversion: payloads of our kinds, one end for each runnable action, ids once."""
    made = made_of(values)
    codec = Codec(WORDS.registry, WORDS.chain)
    runnable: Counter[str] = Counter()
    for each in made:
        spec = WORDS.registry.find_current(each.category, each.kind)
        if spec is None:
            assert each.kind == "openhands.v1.opaque"
            continue
        assert isinstance(each.payload, spec.payload)
        codec.validate(spec, codec.encode("default", "s", spec, each.payload))
        assert each.terminal is (spec.terminal and each.category == "observation")
        if each.category == ACTION and spec.runnable:
            runnable[each.id] += 0
        elif each.terminal:
            assert each.cause is not None
            runnable[each.cause] += 1
    assert set(runnable.values()) <= {1}
    assert len({each.id for each in made}) == len(made)


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_that_the_sdk_writes_opens(folder: str) -> None:
    """Each event of real conversations of three releases is one of ours; none is opaque, each action ends once."""
    values = values_of(folder)
    check(values)
    converted = list(convert(values))
    assert not [each.made[0].payload for each in converted if each.opaque]
    assert all(each.time == value["timestamp"] for each, value in zip(converted, values, strict=True))


def test_every_kind_of_event_is_among_the_fixtures() -> None:
    """What the SDK can write is tested with what it wrote."""
    kinds = {value["kind"] for folder in FOLDERS for value in values_of(folder)}
    known = {
        "ACPToolCallEvent", "ActionEvent", "AgentErrorEvent", "Condensation", "CondensationRequest",
        "CondensationSummaryEvent", "ConversationErrorEvent", "ConversationStateUpdateEvent", "HookExecutionEvent",
        "InterruptEvent", "LLMCompletionLogEvent", "MessageEvent", "ObservationEvent", "PauseEvent",
        "SecurityAnalysisEvent", "StreamingDeltaEvent", "SystemPromptEvent", "TokenEvent", "UserRejectObservation",
    }  # fmt: skip
    assert kinds == known


@pytest.mark.parametrize(
    ("kind", "tool", "fields", "ours", "payload"),
    [
        ("TerminalAction", "terminal", {"command": "ls", "timeout": 3}, "run", {"command": "ls", "timeout_seconds": 3}),
        ("ExecuteBashAction", "execute_bash", {"command": "ls"}, "run", {"command": "ls"}),
        (
            "FileEditorAction",
            "file_editor",
            {"command": "insert", "path": "/a", "new_str": "x", "insert_line": 0},
            "edit",
            {"command": "insert", "path": "/a", "new_str": "x", "insert_line": 0},
        ),
        ("WriteFileAction", "write_file", {"file_path": "/a", "content": "x"}, "write", {"path": "/a", "content": "x"}),
        (
            "ReadFileAction",
            "read_file",
            {"file_path": "/a", "offset": 2, "limit": 3},
            "read",
            {"path": "/a", "line_first": 3, "line_last": 5},
        ),
        ("EditAction", "edit", {"file_path": "/a", "old_string": "", "new_string": "n"}, "edit", {"command": "create"}),
        ("ListDirectoryAction", "list", {"dir_path": "/a", "recursive": True}, "list", {"path": "/a", "depth": 2}),
        ("BrowserNavigateAction", "browser_navigate", {"url": "https://a"}, "browse", {"url": "https://a"}),
        ("MCPToolAction", "search", {"data": {"q": 1}}, "call_tool_mcp", {"name": "search", "arguments": {"q": 1}}),
        ("AcmeProbeAction", "probe", {"depth": 3}, "call_tool_mcp", {"name": "probe", "arguments": {"depth": 3}}),
        ("FinishAction", "finish", {"message": "bye"}, "finish", {"final_thought": "bye"}),
        ("ThinkAction", "think", {"thought": "hm"}, "think", {"thought": "hm"}),
        ("TaskTrackerAction", "task_tracker", {"command": "view"}, "task_tracking", {"command": "view"}),
    ],
)
def test_tools_become_our_kinds(
    kind: str, tool: str, fields: dict[str, Any], ours: str, payload: dict[str, Any]
) -> None:
    """A tool that we have a kind for becomes that; any other, of whatever class, is the call of that tool."""
    made = made_of([action(1, kind, tool, **fields)])
    assert made[0].kind == ours
    assert made[0].id == IDS.of("action-1")
    assert plain(made[0]).items() >= payload.items()


@pytest.mark.parametrize(
    ("fields", "said", "outcome", "more"),
    [
        ({"exit_code": 0}, "x", "ok", {"exit_code": 0, "effects": "complete", "output": "x"}),
        ({"exit_code": 2}, "x", "failed", {"exit_code": 2, "effects": "complete"}),
        ({"exit_code": -1, "timeout": True}, "", "timeout", {"effects": "possible", "deadline": "command"}),
        (
            {"exit_code": -1, "metadata": {"suffix": "\n[The command timed out after 1.0 seconds. You may wait]"}},
            "",
            "timeout",
            {"deadline": "command", "reason": "still_running"},
        ),
        (
            {
                "exit_code": -1,
                "metadata": {"suffix": "\n[The command has no new output after 30 seconds. You may wait]"},
            },
            "",
            "timeout",
            {"deadline": "quiet"},
        ),
        ({"exit_code": -1}, "", "unknown", {"reason": "no_exit_code", "effects": "possible"}),
        ({"is_error": True}, "broken", "failed", {"reason": "tool_error"}),
        ({"metadata": {"exit_code": 0, "working_dir": "/w"}}, "", "ok", {"working_directory": "/w"}),
    ],
)
def test_commands_end_as_they_ended(fields: dict[str, Any], said: str, outcome: str, more: dict[str, Any]) -> None:
    """A command is over only where the record proves it; one that was looked away from may have gone on."""
    end = made_of([action(), observation(said=said, **fields)])[1]
    assert end.terminal
    assert end.cause == IDS.of("action-1")
    assert plain(end).items() >= {"outcome": outcome, **more}.items()


FORMER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "before 1.0.0",
        {"kind": "ExecuteBashObservation", "output": "x", "error": False, "exit_code": 0},
        {"output": "x"},
    ),
    ("before 1.0.0", {"kind": "FileEditorObservation", "output": "", "error": "no such file"}, {"outcome": "failed"}),
    ("before 1.0.0", {"kind": "ThinkObservation", "content": "thought"}, {}),
]


@pytest.mark.parametrize(("era", "inner", "payload"), FORMER)
def test_observations_of_before_1_0_0(era: str, inner: dict[str, Any], payload: dict[str, Any]) -> None:
    """What stood in `output`, `message` and `error`, or in a `content` of text, is found there."""
    asked = action(1, "FileEditorAction", "e", command="view", path="/a") if "File" in inner["kind"] else action()
    converted = list(convert([asked, observation() | {"observation": inner}]))[1]
    assert era in converted.shape
    assert plain(converted.made[0]).items() >= payload.items()


def test_a_field_that_a_library_renamed_does_not_matter() -> None:
    """Tools that were stored with `inputSchema` open like those with `input_schema`: they are kept as they stand."""
    for name in ("inputSchema", "input_schema"):
        tools = [{"kind": "MCPToolDefinition", "mcp_tool": {"name": "search", name: {"type": "object"}, "unheard": 1}}]
        prompt = {"kind": "SystemPromptEvent", "id": "p", "system_prompt": {"text": "hello"}, "tools": tools}
        (made,) = made_of([prompt])
        assert plain(made)["content"] == "hello"
        assert plain(made)["tools"] == tools


def test_one_unknown_event_hides_no_other() -> None:
    """An event of a class that nobody registered is kept as opaque, in its place; all around it opens."""
    values: list[Any] = [action(1), {"kind": "AcmeEvent", "id": "x", "secret_sauce": [1]}, observation(1, exit_code=0)]
    asked, unknown, ended = made_of(values)
    assert unknown.kind == "openhands.v1.opaque"
    assert plain(unknown)["original"] == values[1]
    assert "AcmeEvent" in plain(unknown)["reason"]
    assert ended.cause == asked.id


def test_an_event_without_its_kind_is_told_by_its_fields() -> None:
    """The discriminator is gone or unknown, the fields are not."""
    for change in ({"kind": None}, {"kind": "RenamedActionEvent"}):
        converted = next(iter(convert([action() | change])))
        assert converted.made[0].kind == "run"
        assert "its fields tell that it is a ActionEvent" in converted.steps


def test_refusals_and_errors_end_their_actions() -> None:
    """A refused action never ran, nor what was no action yet; an error in the middle leaves open what happened."""
    refusal = {"kind": "UserRejectObservation", "id": "u", "action_id": "action-1", "rejection_reason": "no"}
    never = {**action(2), "action": None}
    error = {"kind": "AgentErrorEvent", "id": "e2", "tool_call_id": "call-2", "error": "bad arguments"}
    crash = {"kind": "AgentErrorEvent", "id": "e3", "tool_call_id": "call-3", "error": "A restart occurred"}
    raised = {"kind": "AgentErrorEvent", "id": "e4", "tool_call_id": "call-4", "error": "ValueError"}
    stray = {"kind": "AgentErrorEvent", "id": "e5", "tool_call_id": "call-5", "error": "who?"}
    made = made_of([action(1), refusal, never, error, action(3), crash, action(4), raised, stray])
    ends = [(plain(each)["outcome"], plain(each)["effects"]) for each in made if each.terminal]
    assert ends == [("rejected", "none"), ("error", "none"), ("unknown", "possible"), ("failed", "possible")]
    assert made[-1].kind == "notice"


def test_an_action_ends_once() -> None:
    """A second observation is late; an action without one is unknown at the end of the source, and once only."""
    made = made_of([action(1), observation(1, exit_code=0), observation(1, exit_code=1), action(2)])
    assert [each.kind for each in made] == ["run", "run", "late_result", "run", "run"]
    assert plain(made[-1])["reason"] == "not_in_import"
    check([action(1), observation(1, exit_code=0), observation(1, exit_code=1), action(2), action(2), observation(2)])


def test_an_observation_that_cannot_be_read_leaves_its_action_open() -> None:
    """The action still gets its end, from the end of the source."""
    broken = observation(1) | {
        "observation": {"kind": "TerminalObservation", "exit_code": 0, "metadata": {"working_dir": {"a": 1}}}
    }
    made = made_of([action(1), broken])
    assert [each.kind for each in made] == ["run", "openhands.v1.opaque", "run"]
    assert made[2].terminal


def test_reasoning_is_kept() -> None:
    """What the model thought before it acted is a thought before the action."""
    thought, asked = made_of([action() | {"reasoning_content": "I wonder"}])[:2]
    assert (thought.kind, plain(thought)["thought"], asked.kind) == ("think", "I wonder", "run")


def test_what_was_said_or_reasoned_before_a_message_or_a_thought_is_kept() -> None:
    """A thought of its own stands before the thought, and before the message, that it came before."""
    asked = action(1, "ThinkAction", "think", thought="hm") | {"thought": [{"type": "text", "text": "Let me see."}]}
    message = {"role": "assistant", "content": [{"type": "text", "text": "hi"}], "reasoning_content": "greet"}
    made = made_of([asked, {"kind": "MessageEvent", "id": "m", "source": "agent", "llm_message": message}])
    assert [(each.kind, plain(each).get("thought", plain(each).get("content"))) for each in made] == [
        ("think", "Let me see."),
        ("think", "hm"),
        ("think", "greet"),
        ("message", "hi"),
    ]
    assert made[1].id == IDS.of("action-1")
    assert made[3].id == IDS.of("m")


def test_calls_of_before_the_first_release() -> None:
    """The model's call stood in `function`: its name and arguments are found there, and are not told to be lost."""
    call = {"index": 0, "id": "call-1", "type": "function", "function": {"name": "probe", "arguments": '{"depth": 3}'}}
    never = action(1) | {"action": None, "tool_name": "", "tool_call": call}
    made = made_of([never])
    assert plain(made[0]).items() >= {"name": "probe", "arguments": {"depth": 3}}.items()
    editor = action(2, "StrReplaceEditorAction", "e", command="view", path="/a") | {"tool_call": call}
    (converted,) = convert([editor])
    assert (converted.made[0].kind, converted.shape) == (
        "edit",
        "event ActionEvent StrReplaceEditorAction, before 1.0.0a1",
    )
    assert "tool_call.arguments" in converted.lost
    same = {**call, "function": {"name": "e", "arguments": '{"command": "view", "path": "/a", "security_risk": "LOW"}'}}
    (converted,) = convert([editor | {"tool_call": same}])
    assert "tool_call.arguments" not in converted.lost


def test_an_end_without_its_action_brings_it() -> None:
    """What a command printed tells the command: the action is made of it. What tells less stays a remark."""
    made = made_of([observation(7, exit_code=0, command="make")])
    assert [(each.kind, each.category, each.terminal) for each in made] == [
        ("run", "action", False),
        ("run", "observation", True),
    ]
    assert (plain(made[0])["command"], made[1].cause, made[0].actor) == ("make", made[0].id, "import")
    (remark,) = made_of([observation(7, kind="FileEditorObservation", path="/a")])
    assert (remark.kind, remark.terminal) == ("notice", False)
    check([observation(7, exit_code=0, command="make"), observation(7, exit_code=0, command="make")])


@pytest.mark.parametrize(("kind", "ours"), [("SystemPromptUpdateEvent", "system"), ("ServerErrorEvent", "notice")])
def test_events_of_servers_and_of_prompts_that_changed(kind: str, ours: str) -> None:
    """They are read by their names, not by a guess."""
    value: dict[str, Any] = {
        "kind": kind,
        "id": "x",
        "system_prompt": {"text": "now"},
        "tools": [],
        "code": "E",
        "detail": "now",
    }
    (converted,) = convert([value])
    assert (converted.made[0].kind, plain(converted.made[0])["content"]) == (ours, "now")
    assert not converted.steps


def test_the_oldest_release_names_the_era() -> None:
    """An alpha comes before its release."""
    (one,) = (
        each for each in convert(values_of("conversation-before-1.0.0a1")) if "Finish" in each.shape and each.made
    )
    assert one.shape.endswith("before 1.0.0a1")
    (converted,) = convert(
        [{"kind": "MessageEvent", "id": "m", "activated_microagents": [], "llm_message": {"content": "x"}}]
    )
    assert converted.shape == "event MessageEvent, before 1.0.0a5"
    assert "1.0.0 content is a list of texts and images" in converted.steps


def test_a_parent_is_lost_where_events_are_no_line() -> None:
    """The event before is a parent that the order tells; another one, of a tree that forked, is told to be lost."""
    line = [action(1), observation(1, exit_code=0) | {"parent_id": "action-1"}, action(2) | {"parent_id": "action-1"}]
    assert ["parent_id" in each.lost for each in convert(line)] == [False, False, True]


def test_what_finds_no_place_is_named() -> None:
    """Each field that no event of ours has is told by its path, so that it can be found in the original."""
    value = action(1, command="ls", reset=True) | {"critic_result": {"score": 1}, "parent_id": "elsewhere"}
    (converted,) = convert([value])
    assert {"action.reset", "critic_result", "llm_response_id", "parent_id"} <= set(converted.lost)


@pytest.mark.parametrize("value", [None, 1, "text", [], [1, 2], {}, {"kind": 7}])
def test_what_is_no_event_is_opaque(value: Any) -> None:
    """Anything that is JSON is converted to something."""
    (converted,) = convert([value])
    assert converted.opaque
    assert converted.made[0].kind == "openhands.v1.opaque"


def test_damage_is_opaque() -> None:
    """A record that could not be decoded keeps its place, with the problem."""
    course = OpenHandsV1().course("default", "s")
    converted = course.convert(Original(0, "k", None, "not JSON"))
    assert converted.opaque
    assert plain(converted.made[0])["reason"] == "not JSON"


def test_a_course_goes_on_where_it_was() -> None:
    """Written down between any two records, it makes the same events."""
    for folder in FOLDERS:
        values = values_of(folder)
        whole = made_of(values)
        course, made = OpenHandsV1().course("default", "s"), list[Any]()
        for value in values:
            course = OpenHandsV1().course("default", "s", course.state())
            made += next(iter(convert([value], course))).made
        assert [*made, *course.finish().made] == whole


def test_what_is_remembered_is_bounded() -> None:
    """Ten thousand actions that never end leave a small state, and each ends once."""
    values = [action(number) for number in range(3000)]
    course = OpenHandsV1().course("default", "s")
    for _ in convert(values, course):
        pass
    assert len(course.state()) < 400_000
    check(values)


def test_mutations_never_abort() -> None:
    """Whatever is changed in valid events, each becomes something, and no action ends twice."""
    seed = random.Random(4080)
    values = [value for folder in FOLDERS for value in values_of(folder)]
    for _ in range(850):  # 10,000 of them changed
        check([mutated(seed, value) if seed.random() < 0.3 else value for value in seed.sample(values, 40)])


STRANGE: list[Any] = [None, -1, 2**63, 1.5, "", "é", [], {}, [[]], {"a": {}}, True]


def size(value: Any) -> int:
    """Return how many items there are."""
    return len(value)


def mutated(seed: random.Random, value: Any) -> Any:
    """Return a copy with something changed, gone, or of another type."""
    found: Any = json.loads(json.dumps(value))
    here: Any = found
    while True:
        keys: list[Any] = [*here] if here.__class__ is dict else list(range(size(here)))
        if not keys:
            return found
        key = seed.choice(keys)
        inner: Any = here[key]
        if inner.__class__ in {dict, list} and inner and seed.random() < 0.7:
            here = inner
            continue
        change = seed.choice(["drop", "type", "name"])
        if change == "drop":
            del here[key]
        elif change == "type" or here.__class__ is list:
            here[key] = seed.choice(STRANGE)
        else:
            here[f"{key}_"] = here.pop(key)
        return found
