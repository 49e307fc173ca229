"""ATIF 1.7 as a checker of ours, from its specification: fields, types, and the rules between them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
ROOT = {
    "schema_version": str,
    "session_id": str,
    "trajectory_id": str,
    "agent": dict,
    "steps": list,
    "notes": str,
    "final_metrics": dict,
    "continued_trajectory_ref": str,
    "extra": dict,
    "subagent_trajectories": list,
}
AGENT = {"name": str, "version": str, "model_name": str, "tool_definitions": list, "extra": dict}
STEP = {
    "step_id": int,
    "timestamp": str,
    "source": str,
    "model_name": str,
    "reasoning_effort": (str, float),
    "message": (str, list),
    "reasoning_content": str,
    "tool_calls": list,
    "observation": dict,
    "metrics": dict,
    "is_copied_context": bool,
    "llm_call_count": int,
    "extra": dict,
}
CALL = {"tool_call_id": str, "function_name": str, "arguments": dict, "extra": dict}
RESULT = {"source_call_id": str, "content": (str, list), "subagent_trajectory_ref": list, "extra": dict}
METRICS = {
    "total_prompt_tokens": int,
    "total_completion_tokens": int,
    "total_cached_tokens": int,
    "total_cost_usd": float,
    "total_steps": int,
    "extra": dict,
}


def fields(value: Any, known: dict[str, Any], *required: str) -> None:
    """Assert that an object has the required fields, and no others than the known ones."""
    assert isinstance(value, dict)
    assert set(required) <= value.keys(), f"{required} in {sorted(value)}"  # pyright: ignore[reportUnknownArgumentType]  decoded JSON
    for name, item in value.items():  # pyright: ignore[reportUnknownVariableType]  decoded JSON
        assert name in known, f"there is no field {name}"
        assert isinstance(item, known[name]), f"{name}: {item!r}"


def check(trajectory: Any) -> None:
    """Assert that a document is a trajectory."""
    fields(trajectory, ROOT, "schema_version", "agent", "steps")
    assert trajectory["schema_version"] == "ATIF-v1.7"
    fields(trajectory["agent"], AGENT, "name", "version")
    fields(trajectory.get("final_metrics", {}), METRICS)
    assert trajectory["steps"], "there is one step at least"
    for number, step in enumerate(trajectory["steps"], 1):
        fields(step, STEP, "step_id", "source", "message")
        assert step["step_id"] == number
        assert step["source"] in {"system", "user", "agent"}
        datetime.fromisoformat(step.get("timestamp", "2026-01-01").replace("Z", "+00:00"))
        if step["source"] != "agent":
            assert not [name for name in AGENT_ONLY if name in step]
        calls = step.get("tool_calls", [])
        for call in calls:
            fields(call, CALL, "tool_call_id", "function_name", "arguments")
        if "observation" in step:
            fields(step["observation"], {"results": list}, "results")
            for result in step["observation"]["results"]:
                fields(result, RESULT)
                source = result.get("source_call_id")
                assert source is None or source in {call["tool_call_id"] for call in calls}
