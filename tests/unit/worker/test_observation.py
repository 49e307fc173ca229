"""Terminal observations from what an untrusted action server says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.codec import encode_json
from chronicled.events.envelope import Event
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import builtin_registry
from chronicled.runtimes.action_server.frames import Result
from chronicled.runtimes.output.summary import OutputSummary
from chronicled.runtimes.worker.observation import EFFECTS, EVENT_BYTES_MAX, bounded, of_result, terminal

REGISTRY = builtin_registry()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


def action(kind: str) -> Event:
    """Return an action of the kind."""
    return Event(1, "default", "s", 0, "id", kind, 1, "action", "main", "client", "me", "", msgspec.Raw(b"{}"), "")


def built(kind: str, output: OutputSummary | None = None, **said: Any) -> Any:
    """Return the observation of a result."""
    values: dict[str, Any] = {"outcome": Outcome.OK, "effects": Effects.COMPLETE, **said}
    return bounded(terminal(REGISTRY, action(kind), of_result(Result(action="id", **values), "g"), output)[1])


@given(
    st.sampled_from(["run", "read", "write", "browse", "call_tool_mcp"]),
    st.sampled_from(list(Outcome)),
    st.sampled_from(list(Effects)),
    st.dictionaries(st.sampled_from(["outcome", "exit_code", "content", "path", "result", "message"]), JSON),
)
def test_the_outcome_stands_whatever_else_is_said(
    kind: str, outcome: Outcome, effects: Effects, fields: dict[str, Any]
) -> None:
    """Any result makes an observation: bounded, its effects fit its outcome, and it claims nothing it cannot know."""
    payload = built(kind, outcome=outcome, effects=effects, fields=fields)
    expected = outcome
    if outcome in {Outcome.SANDBOX_LOST, Outcome.UNKNOWN, Outcome.OOM_KILLED}:
        expected = Outcome.UNKNOWN
    assert payload.outcome == expected
    assert payload.effects in EFFECTS[expected]
    assert payload.generation == "g"
    assert len(encode_json(payload)) <= EVENT_BYTES_MAX


def test_fields_of_the_kind_are_taken() -> None:
    """What fits the kind stands in the observation; the worker's own output fields win over what the server says."""
    fields = {"exit_code": 3, "working_directory": "/tmp", "output": "forged", "output_bytes": 1}
    payload = built("run", OutputSummary(output="true", output_bytes=4), outcome=Outcome.FAILED, fields=fields)
    assert (payload.exit_code, payload.working_directory, payload.output, payload.output_bytes) == (
        3,
        "/tmp",
        "true",
        4,
    )


def test_a_kind_without_output_keeps_its_own_truncated() -> None:
    """`truncated` of a `read` is the executor's to say."""
    assert built("read", OutputSummary(), fields={"content": "x", "truncated": True}).truncated


@pytest.mark.parametrize("content", ["x" * 300_000, "\x01" * 100_000, "é" * 90_000])
def test_what_is_too_large_is_shortened_and_says_so(content: str) -> None:
    """A field that no event can hold is cut; the observation fits and is marked."""
    payload = built("read", fields={"path": "/etc/x", "content": content, "file_bytes": 300_000})
    assert len(encode_json(payload)) <= EVENT_BYTES_MAX
    assert payload.truncated
    assert content.startswith(payload.content)
    assert payload.path == "/etc/x"
    assert "shortened" in payload.message


def test_an_action_server_names_no_blobs() -> None:
    """A digest that a sandbox made up would open another session's blob: it is dropped, the rest stands."""
    payload = built("read", fields={"content": "x", "blobs": {"content": "ab" * 32}})
    assert (payload.content, payload.blobs, payload.message) == ("x", {}, None)
