"""What an agent did through a tool, in our words: `ActionEvent` and the tools' own classes in it.

A tool that we have no kind for is a call of that tool (`call_tool_mcp`) with its arguments, whoever wrote it: an action
of a class that nobody knows here is read like any other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, cast

from chronicled.migrations.openhands.v1.reading import Reading, empty, mapping, text

__all__ = ["RUNNABLE", "action_fields", "spoken"]

SECONDS_MAX: Final = 604_800
RISKS: Final = {"UNKNOWN": "unknown", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}
RUNNABLE: Final = frozenset({"run", "read", "write", "edit", "list", "browse", "call_tool_mcp"})
TAKEN: Final = frozenset(
    {"thought", "action", "tool_name", "tool_call_id", "tool_call", "security_risk", "reasoning_content"}
)

Reader = Callable[[Reading, Mapping[str, Any]], dict[str, Any]]


def action_fields(r: Reading, thought: str) -> tuple[str, dict[str, Any]]:
    """Return our kind, and the fields of its payload; the thought is in it unless it is a thought itself.

    Raises:
        Unreadable: a field that is needed is no text.
        KeyError: it is missing.
    """
    value = r.value
    action = mapping(value.get("action"))
    name = action.get("kind")
    if name in FORMER:
        release, newer = FORMER[name]
        r.step(release, f"{name} is {newer}")
        name = newer
    kind, taken, read = _ACTIONS.get(str(name), ("call_tool_mcp", None, _tool))
    payload = read(r, action)
    if taken is not None:
        r.lose_rest(taken, action, "action.")
    if kind in RUNNABLE:
        risk = value.get("security_risk", "UNKNOWN")
        if isinstance(risk, str) and risk.upper() in RISKS:
            payload["security_risk"] = RISKS[risk.upper()]
        else:
            r.lost.append("security_risk")
    if thought and kind != "think":
        payload["thought"] = thought
    r.lose_rest(TAKEN)
    _check_call(r, action)
    return kind, payload


def spoken(r: Reading) -> str:
    """Return what the agent said as it called the tool."""
    said, images = r.texts(r.value.get("thought") or [], "thought")
    if images:
        r.lost.append("thought")
    return said


def _called(r: Reading) -> tuple[str, str]:
    """Return the name and the arguments of the model's own call; "" for what it does not tell."""
    call = mapping(r.value.get("tool_call"))
    inner = call.get("function")
    if isinstance(inner, dict):
        r.step("1.0.0a1", "a call's function is the call")
        call = mapping(inner)
    return text(call.get("name")), text(call.get("arguments"))


def _check_call(r: Reading, action: Mapping[str, Any]) -> None:
    """Note where the model's own call says something that the action does not."""
    if not action or not mapping(r.value.get("tool_call")):
        return
    try:
        asked = mapping(json.loads(_called(r)[1]))
    except (ValueError, RecursionError):
        r.lost.append("tool_call.arguments")
        return
    data = mapping(action.get("data")) or action
    known = {"security_risk", "summary"}
    if any(name not in known and data.get(name) != item for name, item in asked.items()):
        r.lost.append("tool_call.arguments")


def _run(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = {"command": text(a["command"])}
    timeout = a.get("timeout")
    if type(timeout) in {int, float} and 0 < cast("float", timeout) <= SECONDS_MAX:
        payload["timeout_seconds"] = float(cast("float", timeout))
    elif not empty(timeout):
        r.lost.append("action.timeout")
    if a.get("is_input"):
        r.steps.append("input for a running command is kept as a command")
        r.lost.append("action.is_input")
    return payload


def _edit(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = {"path": text(a["path"]), "command": text(a["command"])}
    for name in ("file_text", "old_str", "new_str", "insert_line", "view_range"):
        if a.get(name) is not None:
            payload[name] = a[name]
    return payload


def _replace(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    old, new = text(a["old_string"]), text(a["new_string"])
    if a.get("expected_replacements", 1) != 1:
        r.lost.append("action.expected_replacements")
    if not old:
        return {"path": text(a["file_path"]), "command": "create", "file_text": new}
    return {"path": text(a["file_path"]), "command": "str_replace", "old_str": old, "new_str": new}


def _write(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"path": text(a["file_path"]), "content": text(a["content"])}


def _read(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    payload: dict[str, Any] = {"path": text(a["file_path"])}
    offset, limit = a.get("offset"), a.get("limit")
    first = offset + 1 if type(offset) is int and offset > 0 else 1
    if first > 1:
        payload["line_first"] = first
    if type(limit) is int and limit > 0:
        payload["line_last"] = first + limit - 1
    return payload


def _list(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"path": text(a.get("dir_path")) or ".", "depth": 2 if a.get("recursive") is True else 1}


def _navigate(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"url": text(a["url"])}


def _mcp(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": _tool_name(r), "arguments": mapping(a.get("data"))}


def _tool(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    if a:
        return {"name": _tool_name(r), "arguments": {name: item for name, item in a.items() if name != "kind"}}
    # It was never made into an action, e.g. since its arguments were wrong: what the model asked for is in its call.
    asked = _called(r)[1]
    arguments: Any = None
    with suppress(ValueError, RecursionError):
        arguments = json.loads(asked) if asked.strip() else {}
    return {"name": _tool_name(r), "arguments": mapping(arguments) if isinstance(arguments, dict) else {"text": asked}}


def _tool_name(r: Reading) -> str:
    return text(r.value.get("tool_name")) or _called(r)[0] or "unknown"


def _finish(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"final_thought": text(a.get("message"))}


def _think(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"thought": text(a.get("thought"))}


def _tasks(r: Reading, a: Mapping[str, Any]) -> dict[str, Any]:
    return {"command": a.get("command") or "view", "task_list": a.get("task_list") or []}


FORMER: Final = {
    "ExecuteBashAction": ("1.5.0", "TerminalAction"),
    "BashAction": ("1.5.0", "TerminalAction"),
    "StrReplaceEditorAction": ("1.0.0a1", "FileEditorAction"),
}
_EDITOR: Final = frozenset({"path", "command", "file_text", "old_str", "new_str", "insert_line", "view_range"})
_ACTIONS: Final[Mapping[str, tuple[str, frozenset[str] | None, Reader]]] = {
    "TerminalAction": ("run", frozenset({"command", "timeout", "is_input"}), _run),
    "FileEditorAction": ("edit", _EDITOR, _edit),
    "PlanningFileEditorAction": ("edit", _EDITOR, _edit),
    "EditAction": ("edit", frozenset({"file_path", "old_string", "new_string", "expected_replacements"}), _replace),
    "WriteFileAction": ("write", frozenset({"file_path", "content"}), _write),
    "ReadFileAction": ("read", frozenset({"file_path", "offset", "limit"}), _read),
    "ListDirectoryAction": ("list", frozenset({"dir_path", "recursive"}), _list),
    "BrowserNavigateAction": ("browse", frozenset({"url"}), _navigate),
    "MCPToolAction": ("call_tool_mcp", frozenset({"data"}), _mcp),
    "FinishAction": ("finish", frozenset({"message"}), _finish),
    "ThinkAction": ("think", frozenset({"thought"}), _think),
    "TaskTrackerAction": ("task_tracking", frozenset({"command", "task_list"}), _tasks),
}
"""By class: our kind, the fields that find a place, and what reads them."""
