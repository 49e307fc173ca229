"""Our actions as those of OpenHands V0: `action`, `args`, who did it, and what is derived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from chronicled.events.kinds import actions
from chronicled.events.kinds.runnable import Runnable
from chronicled.migrations.formats.chronicle import Chronicle
from chronicled.migrations.formats.openhands_v0_originals import foreign_id
from chronicled.migrations.formats.shown_text import Text, command_of, part_of

__all__ = ["Shape", "action_shape", "tool_shape"]

AGENT: Final = "agent"
USER: Final = "user"
RISKS: Final = {"unknown": -1, "low": 0, "medium": 1, "high": 2}
OPTIONS: Final = {"prompt": 1, "repeat_prompt": 2, "stop": 3}
TOOL_PREFIX: Final = "chronicled."


class Shape(NamedTuple):
    """An event of OpenHands V0 but for its envelope."""

    type: str
    args: dict[str, Any]
    message: Text
    source: str = AGENT
    timeout: float | None = None


def action_shape(chronicle: Chronicle, kind: str, payload: Any) -> Shape:
    """Return the action as OpenHands 0.62 reads it; one that it has no class for as the call of a tool of ours."""
    make = _SHAPES.get(payload.__class__)
    shape = None if make is None else make(chronicle, payload)
    return shape or tool_shape(kind, payload)


def tool_shape(kind: str, payload: Any) -> Shape:
    """Return the action as the call of a tool `chronicled.KIND`, the payload its arguments."""
    arguments = msgspec.to_builtins(payload)
    args = {"name": f"{TOOL_PREFIX}{kind}", "arguments": arguments, **_common(payload)}
    return Shape("call_tool_mcp", args, f"I am interacting with the MCP server with name: {args['name']}")


def _common(payload: Any) -> dict[str, Any]:
    return {"thought": payload.thought, "security_risk": _risk(payload)} if isinstance(payload, Runnable) else _THOUGHT


_THOUGHT: Final[dict[str, Any]] = {"thought": "", "security_risk": -1}


def _risk(payload: Runnable) -> int:
    return RISKS[payload.security_risk]


def _told(before: str, text: Text) -> Text:
    return f"{before}{text}" if isinstance(text, str) else f"{before}{text.fallback}"


def _run(_: Chronicle, payload: actions.Run) -> Shape:
    command = command_of(payload)
    args = {
        "command": command,
        "is_input": False,
        "thought": payload.thought,
        "blocking": False,
        "is_static": False,
        "cwd": payload.working_directory,
        "hidden": payload.hidden,
        "confirmation_state": "confirmed",
        "security_risk": _risk(payload),
    }
    return Shape("run", args, _told("Running command: ", command), timeout=payload.timeout_seconds)


def _run_ipython(_: Chronicle, payload: actions.RunIpython) -> Shape:
    code = part_of(payload, "code")
    args = {
        "code": code,
        "thought": payload.thought,
        "include_extra": payload.include_extra,
        "confirmation_state": "confirmed",
        "security_risk": _risk(payload),
        "kernel_init_code": "",
    }
    message = _told("Running Python code interactively: ", code)
    return Shape("run_ipython", args, message, timeout=payload.timeout_seconds)


def _read(_: Chronicle, payload: actions.Read) -> Shape | None:
    if payload.byte_offset is not None or payload.byte_count is not None or payload.charset is not None:
        return None
    lines = payload.line_first is not None or payload.line_last is not None
    return _reading(payload, [payload.line_first or 1, payload.line_last or -1] if lines else None)


def _reading(payload: actions.Read | actions.Edit, lines: list[int] | None) -> Shape:
    args = {
        "path": payload.path,
        "start": 0,
        "end": -1,
        "thought": payload.thought,
        "security_risk": _risk(payload),
        "impl_source": "default" if lines is None and isinstance(payload, actions.Read) else "oh_aci",
        "view_range": lines,
    }
    return Shape("read", args, f"Reading file: {payload.path}", timeout=payload.timeout_seconds)


def _write(_: Chronicle, payload: actions.Write) -> Shape | None:
    if payload.encoding != "utf-8":
        return None
    args = {
        "path": payload.path,
        "content": part_of(payload, "content"),
        "start": 0,
        "end": -1,
        "thought": payload.thought,
        "security_risk": _risk(payload),
    }
    return Shape("write", args, f"Writing file: {payload.path}", timeout=payload.timeout_seconds)


def _edit(_: Chronicle, payload: actions.Edit) -> Shape:
    if payload.command == "view":
        return _reading(payload, None if payload.view_range is None else list(payload.view_range))
    texts = {
        name: part_of(payload, name) if getattr(payload, name) is not None else None
        for name in ("file_text", "old_str", "new_str")
    }
    args = {
        "path": payload.path,
        "command": payload.command,
        **texts,
        "insert_line": payload.insert_line,
        "content": "",
        "start": 1,
        "end": -1,
        "thought": payload.thought,
        "security_risk": _risk(payload),
        "impl_source": "oh_aci",
    }
    return Shape("edit", args, "", timeout=payload.timeout_seconds)


def _browse(_: Chronicle, payload: actions.Browse) -> Shape:
    args = {"url": payload.url, **_common(payload), "return_axtree": payload.return_axtree}
    return Shape("browse", args, f"I am browsing the URL: {payload.url}", timeout=payload.timeout_seconds)


def _browse_interactive(_: Chronicle, payload: actions.BrowseInteractive) -> Shape:
    args = {
        "browser_actions": payload.browser_actions,
        "thought": payload.thought,
        "browsergym_send_msg_to_user": "",
        "security_risk": _risk(payload),
        "return_axtree": payload.return_axtree,
    }
    message = f"I am interacting with the browser:\n```\n{payload.browser_actions}\n```"
    return Shape("browse_interactive", args, message, timeout=payload.timeout_seconds)


def _call_tool(_: Chronicle, payload: actions.CallToolMcp) -> Shape:
    args = {"name": payload.name, "arguments": payload.arguments, **_common(payload)}
    message = f"I am interacting with the MCP server with name: {payload.name}"
    return Shape("call_tool_mcp", args, message, timeout=payload.timeout_seconds)


def _message(_: Chronicle, payload: actions.Message) -> Shape:
    content = part_of(payload, "content")
    args = {
        "content": content,
        "file_urls": payload.file_urls or None,
        "image_urls": payload.image_urls or None,
        "wait_for_response": payload.wait_for_response,
        "security_risk": -1,
    }
    return Shape("message", args, content, payload.role)


def _system(_: Chronicle, payload: actions.System) -> Shape:
    content = part_of(payload, "content")
    args = {
        "content": content,
        "tools": payload.tools or None,
        "openhands_version": payload.agent_version,
        "agent_class": payload.agent,
    }
    return Shape("system", args, content)


def _think(_: Chronicle, payload: actions.Think) -> Shape:
    thought = part_of(payload, "thought")
    return Shape("think", {"thought": thought}, _told("I am thinking...: ", thought))


def _finish(_: Chronicle, payload: actions.Finish) -> Shape:
    args = {"final_thought": payload.final_thought, "outputs": payload.outputs, "thought": payload.thought}
    return Shape("finish", args, payload.thought or "All done! What's next on the agenda?")


def _reject(_: Chronicle, payload: actions.Reject) -> Shape:
    reason = payload.outputs.get("reason")
    message = "Task is rejected by the agent." + (f" Reason: {reason}" if reason else "")
    return Shape("reject", {"outputs": payload.outputs, "thought": payload.thought}, message)


def _delegate(_: Chronicle, payload: actions.Delegate) -> Shape:
    args = {"agent": payload.agent, "inputs": payload.inputs, "thought": payload.thought}
    return Shape("delegate", args, f"I'm asking {payload.agent} for help with this task.")


def _recall(_: Chronicle, payload: actions.Recall) -> Shape:
    args = {"recall_type": payload.recall_type, "query": payload.query, "thought": payload.thought}
    return Shape("recall", args, f"Retrieving content for: {payload.query[:50]}", USER)


def _condensation(chronicle: Chronicle, payload: actions.Condensation) -> Shape:
    ids: list[int] | None = None
    if payload.forgotten_event_ids is not None:
        found = (chronicle.find(id) for id in payload.forgotten_event_ids)
        ids = [foreign_id(chronicle, item) for item in found if item is not None]
    args = {
        "forgotten_event_ids": ids,
        "forgotten_events_start_id": payload.forgotten_sequence_first,
        "forgotten_events_end_id": payload.forgotten_sequence_last,
        "summary": payload.summary,
        "summary_offset": payload.summary_offset,
    }
    message = f"Summary: {payload.summary}" if payload.summary else "Condenser is dropping the events."
    return Shape("condensation", args, message)


def _condensation_request(_: Chronicle, payload: actions.CondensationRequest) -> Shape:
    return Shape("condensation_request", {}, "Requesting a condensation of the conversation history.")


def _change_state(_: Chronicle, payload: actions.ChangeAgentState) -> Shape:
    args = {"agent_state": payload.agent_state, "thought": payload.reason}
    return Shape("change_agent_state", args, f"Agent state changed to {payload.agent_state}", USER)


def _task_tracking(_: Chronicle, payload: actions.TaskTracking) -> Shape:
    tasks = msgspec.to_builtins(payload.task_list)
    args = {"command": payload.command, "task_list": tasks, "thought": payload.thought}
    return Shape("task_tracking", args, f"Managing {len(tasks)} task items")


def _loop_recovery(_: Chronicle, payload: actions.LoopRecovery) -> Shape:
    return Shape("loop_recovery", {"option": OPTIONS[payload.option]}, "")


_SHAPES: Final[dict[type[Any], Callable[[Chronicle, Any], Shape | None]]] = {
    actions.Run: _run,
    actions.RunIpython: _run_ipython,
    actions.Read: _read,
    actions.Write: _write,
    actions.Edit: _edit,
    actions.Browse: _browse,
    actions.BrowseInteractive: _browse_interactive,
    actions.CallToolMcp: _call_tool,
    actions.Message: _message,
    actions.System: _system,
    actions.Think: _think,
    actions.Finish: _finish,
    actions.Reject: _reject,
    actions.Delegate: _delegate,
    actions.Recall: _recall,
    actions.Condensation: _condensation,
    actions.CondensationRequest: _condensation_request,
    actions.ChangeAgentState: _change_state,
    actions.TaskTracking: _task_tracking,
    actions.LoopRecovery: _loop_recovery,
}
