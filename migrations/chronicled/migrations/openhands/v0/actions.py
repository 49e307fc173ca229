"""Actions of OpenHands 0.62.0 as actions of ours: what somebody wanted, in our words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from chronicled.migrations.conversion import Ids
from chronicled.migrations.openhands.v0.blobs import image_list
from chronicled.migrations.openhands.v0.envelope import Envelope, Unreadable, empty, is_array, text

__all__ = ["ACTIONS", "RUNNABLE", "action_fields"]

Reader = Callable[[Envelope, Ids], dict[str, Any]]

SECONDS_MAX: Final = 604_800
FORGOTTEN_MAX: Final = 8192
RISKS: Final[Mapping[Any, str]] = {-1: "unknown", 0: "low", 1: "medium", 2: "high"}
OPTIONS: Final[Mapping[Any, str]] = {1: "prompt", 2: "repeat_prompt", 3: "stop"}


def action_fields(e: Envelope, ids: Ids) -> tuple[str, dict[str, Any]]:
    """Return our kind, and the fields of its payload.

    Raises:
        Unreadable: there is no such kind, or it would mean something else.
    """
    entry = ACTIONS.get(e.type)
    if entry is None:
        raise Unreadable(f"there is no action {e.type[:64]!r}")
    kind, taken, read = entry
    payload = read(e, ids)
    if kind in RUNNABLE:
        _read_runnable(e, payload)
    elif not empty(e.timeout):
        e.lost.append("timeout")
    e.lose_rest(taken)
    return kind, payload


def _read_runnable(e: Envelope, payload: dict[str, Any]) -> None:
    fields = e.fields
    if thought := fields.get("thought"):
        payload["thought"] = text(thought)
    risk = fields.get("security_risk", -1)
    if risk != -1:
        name = RISKS.get(risk) if isinstance(risk, int) else None
        if name is None:
            e.lost.append("args.security_risk")
        else:
            payload["security_risk"] = name
    timeout = e.timeout
    if timeout is not None:
        if type(timeout) in {int, float} and 0 < timeout <= SECONDS_MAX:
            payload["timeout_seconds"] = float(timeout)
        else:
            e.lost.append("timeout")
    state = fields.get("confirmation_state", "confirmed")
    if state not in {"confirmed", "rejected", "awaiting_confirmation"} and not empty(state):
        e.lost.append("args.confirmation_state")


def _run(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    payload: dict[str, Any] = {"command": text(fields["command"])}
    if fields.get("cwd"):
        payload["working_directory"] = text(fields["cwd"])
    if fields.get("hidden") is True:
        payload["hidden"] = True
    if fields.get("is_input"):
        e.steps.append("input for a running command is kept as a command")
    return payload


def _run_ipython(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {"code": text(e.fields["code"]), "include_extra": e.fields.get("include_extra", True) is not False}


def _read(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    payload: dict[str, Any] = {"path": text(fields["path"])}
    view = fields.get("view_range")
    start, end = fields.get("start", 0), fields.get("end", -1)
    if is_array(view) and len(view) == 2 and type(view[0]) is int:
        start, end = view[0] - 1, view[1]
    if isinstance(start, int) and start > 0:
        payload["line_first"] = start + 1
    if isinstance(end, int) and end > 0:
        payload["line_last"] = end
    return payload


def _write(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    if fields.get("start") not in {0, None} or fields.get("end") not in {-1, None}:
        raise Unreadable("a write of some lines of a file has no counterpart: ours replaces the file")
    return {"path": text(fields["path"]), "content": text(fields["content"])}


def _edit(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    payload: dict[str, Any] = {"path": text(fields["path"]), "command": text(fields["command"])}
    for name in ("file_text", "old_str", "new_str", "insert_line", "view_range"):
        if fields.get(name) is not None:
            payload[name] = fields[name]
    return payload


def _browse(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {"url": text(e.fields["url"]), "return_axtree": e.fields.get("return_axtree") is True}


def _browse_interactive(e: Envelope, ids: Ids) -> dict[str, Any]:
    axtree = e.fields.get("return_axtree") is True
    return {"browser_actions": text(e.fields["browser_actions"]), "return_axtree": axtree}


def _call_tool_mcp(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {"name": text(e.fields["name"]), "arguments": e.fields.get("arguments", {})}


def _message(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    if e.source == "environment":
        e.lost.append("source")
    if fields.get("security_risk", -1) != -1:
        e.lost.append("args.security_risk")
    files = fields.get("file_urls")
    return {
        "content": text(fields["content"]),
        "role": "user" if e.source == "user" or (e.flat and e.key == "@0") else "agent",
        "image_urls": image_list(e, fields.get("image_urls")),
        "file_urls": [] if files is None else files,
        "wait_for_response": fields.get("wait_for_response") is True,
    }


def _system(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    return {
        "content": text(fields["content"]),
        "tools": fields.get("tools") or [],
        "agent": fields.get("agent_class"),
        "agent_version": fields.get("openhands_version"),
    }


def _think(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {"thought": text(e.fields.get("thought"))}


def _finish(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    return {
        "final_thought": text(fields.get("final_thought")),
        "outputs": fields.get("outputs") or {},
        "thought": text(fields.get("thought")),
    }


def _reject(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {"outputs": e.fields.get("outputs") or {}, "thought": text(e.fields.get("thought"))}


def _delegate(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    inputs: Any = fields.get("inputs") or {}
    return {"agent": text(fields["agent"]), "inputs": inputs, "thought": text(fields.get("thought"))}


def _change_agent_state(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {"agent_state": text(e.fields["agent_state"]), "reason": text(e.fields.get("thought"))}


def _recall(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    thought = text(fields.get("thought"))
    return {"recall_type": fields["recall_type"], "query": text(fields.get("query")), "thought": thought}


def _condensation(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    forgotten: Any = fields.get("forgotten_event_ids")
    first, last = fields.get("forgotten_events_start_id"), fields.get("forgotten_events_end_id")
    if forgotten is None and type(first) is int and type(last) is int:
        if not 0 <= last - first < FORGOTTEN_MAX:
            raise Unreadable(f"events {first} to {last} are forgotten: no range, or more than {FORGOTTEN_MAX}")
        e.steps.append("a range of forgotten events is their ids")
        forgotten = list(range(first, last + 1))
    if not is_array(forgotten):
        raise Unreadable("no events are named that are forgotten")
    return {
        "forgotten_event_ids": [ids.of(str(number)) for number in forgotten],
        "summary": fields.get("summary"),
        "summary_offset": fields.get("summary_offset"),
    }


def _nothing(e: Envelope, ids: Ids) -> dict[str, Any]:
    return {}


def _task_tracking(e: Envelope, ids: Ids) -> dict[str, Any]:
    fields = e.fields
    tasks: Any = fields.get("task_list") or []
    return {"command": fields.get("command", "view"), "task_list": tasks, "thought": text(fields.get("thought"))}


def _loop_recovery(e: Envelope, ids: Ids) -> dict[str, Any]:
    option = OPTIONS.get(e.fields.get("option", 1))
    if option is None:
        raise Unreadable(f"there is no option {e.fields.get('option')!r} of a loop's recovery")
    return {"option": option}


RUNNABLE: Final = frozenset(
    {"run", "run_ipython", "read", "write", "edit", "browse", "browse_interactive", "call_tool_mcp"}
)
CALL: Final = ("thought", "security_risk", "confirmation_state")
ACTIONS: Final[Mapping[str, tuple[str, frozenset[str], Reader]]] = {
    "run": ("run", frozenset({*CALL, "command", "cwd", "hidden"}), _run),
    "run_ipython": ("run_ipython", frozenset({*CALL, "code", "include_extra"}), _run_ipython),
    "read": ("read", frozenset({*CALL, "path", "start", "end", "view_range", "impl_source"}), _read),
    "write": ("write", frozenset({*CALL, "path", "content", "start", "end"}), _write),
    "edit": (
        "edit",
        frozenset(
            {
                *CALL, "path", "command", "file_text", "old_str", "new_str", "insert_line", "view_range", "impl_source",
                "start", "end",
            }
        ),
        _edit,
    ),
    "browse": ("browse", frozenset({*CALL, "url", "return_axtree"}), _browse),
    "browse_interactive": (
        "browse_interactive",
        frozenset({*CALL, "browser_actions", "return_axtree"}),
        _browse_interactive,
    ),
    "call_tool_mcp": ("call_tool_mcp", frozenset({*CALL, "name", "arguments"}), _call_tool_mcp),
    "message": (
        "message",
        frozenset({"content", "image_urls", "file_urls", "wait_for_response", "security_risk"}),
        _message,
    ),
    "system": ("system", frozenset({"content", "tools", "agent_class", "openhands_version"}), _system),
    "think": ("think", frozenset({"thought"}), _think),
    "finish": ("finish", frozenset({"final_thought", "outputs", "thought"}), _finish),
    "reject": ("reject", frozenset({"outputs", "thought"}), _reject),
    "delegate": ("delegate", frozenset({"agent", "inputs", "thought"}), _delegate),
    "change_agent_state": ("change_agent_state", frozenset({"agent_state", "thought"}), _change_agent_state),
    "recall": ("recall", frozenset({"recall_type", "query", "thought"}), _recall),
    "condensation": (
        "condensation",
        frozenset(
            {
                "forgotten_event_ids", "forgotten_events_start_id", "forgotten_events_end_id", "summary",
                "summary_offset",
            }
        ),
        _condensation,
    ),
    "condensation_request": ("condensation_request", frozenset(), _nothing),
    "task_tracking": ("task_tracking", frozenset({"command", "task_list", "thought"}), _task_tracking),
    "loop_recovery": ("loop_recovery", frozenset({"option"}), _loop_recovery),
}  # fmt: skip
"""By type: our kind, the fields that find a place (or say nothing new), and what reads them."""
