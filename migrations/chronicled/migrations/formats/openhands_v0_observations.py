"""Our observations as those of OpenHands V0: `observation`, `content`, `extras`.

What ran ends as the observation of its kind. What never ran, and what failed where OpenHands has no exit code for it,
is an `error` there. Outcomes that OpenHands does not know stand in words behind the output (`metadata.suffix`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from chronicled.events.kind import TerminalPayload
from chronicled.events.kinds import actions, observations
from chronicled.events.kinds.lifecycle import LateResult
from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.formats.openhands_v0_actions import TOOL_PREFIX
from chronicled.migrations.formats.shown_text import Text, command_of, part_of, text_of

__all__ = ["Seen", "late_shape", "observation_shape", "opaque_shape", "tool_observation"]

ENVIRONMENT: Final = "environment"
AGENT: Final = "agent"


class Seen(NamedTuple):
    """An observation of OpenHands V0 but for its envelope."""

    type: str
    content: Text
    extras: dict[str, Any]
    message: str = ""
    source: str = AGENT
    success: bool | None = None


def observation_shape(kind: str, payload: Any, action: Any) -> Seen:
    """Return the observation as OpenHands 0.62 reads it; one that it has no class for as the answer of a tool of ours.

    Args:
        kind: The event's kind.
        payload: Its payload, a struct.
        action: The payload of the action that it names, None where there is none.
    """
    if isinstance(payload, TerminalPayload) and not _ran(payload):
        return _error(payload)
    make = _SHAPES.get(payload.__class__)
    seen = None if make is None else make(payload, action)
    return seen or tool_observation(kind, payload)


def tool_observation(kind: str, payload: Any) -> Seen:
    """Return the observation as the answer of a tool `chronicled.KIND`, the payload beside it."""
    extras = {"name": f"{TOOL_PREFIX}{kind}", "arguments": msgspec.to_builtins(payload)}
    return Seen("mcp", text_of(payload), extras)


def opaque_shape(kind: str, version: int, reason: str, content: str, original: Any = None) -> Seen:
    """Return what cannot be read, as the answer of a tool `chronicled.opaque`: a replay passes observations by."""
    arguments: dict[str, Any] = {"kind": kind, "version": version, "reason": reason}
    if original is not None:
        arguments["original"] = original
    return Seen("mcp", content, {"name": f"{TOOL_PREFIX}opaque", "arguments": arguments}, source=ENVIRONMENT)


def late_shape(payload: LateResult) -> Seen:
    """Return what came after an action's end, as an error: the first observation is the one that ends it."""
    return Seen("error", payload.detail, {"error_id": f"late_result: {payload.outcome}"})


def _ran(payload: TerminalPayload) -> bool:
    if payload.outcome in {Outcome.REJECTED, Outcome.ERROR} or payload.effects == Effects.NONE:
        return False
    shows = isinstance(payload, observations.OutputFields | observations.CallToolMcpObservation)
    return payload.outcome == Outcome.OK or shows or bool(getattr(payload, "content", ""))


def _error(payload: TerminalPayload) -> Seen:
    content = payload.message or _outcome(payload)
    return Seen("error", content, {"error_id": ""}, content)


def _outcome(payload: TerminalPayload) -> str:
    more = (payload.reason, payload.deadline and f"{payload.deadline} deadline")
    told = ", ".join(each for each in more if each)
    return f"{payload.outcome}{f' ({told})' if told else ''}"


def _run(payload: observations.RunObservation, action: Any) -> Seen:
    command = command_of(action) if isinstance(action, actions.Run) else ""
    code = -1 if payload.exit_code is None else payload.exit_code
    metadata = {
        "exit_code": code,
        "pid": -1,
        "username": None,
        "hostname": None,
        "working_dir": payload.working_directory,
        "py_interpreter_path": None,
        "prefix": "",
        "suffix": _suffix(payload, code),
    }
    hidden = action.hidden if isinstance(action, actions.Run) else False
    extras = {"command": command, "metadata": metadata, "hidden": hidden}
    shown = command if isinstance(command, str) else command.fallback
    message = f"Command `{shown}` executed with exit code {code}."
    return Seen("run", text_of(payload), extras, message, success=code == 0)


def _suffix(payload: observations.RunObservation, code: int) -> str:
    """Return what OpenHands writes behind an output: how the command ended, in words."""
    if payload.outcome in {Outcome.OK, Outcome.FAILED} and code != -1:
        return f"\n[The command completed with exit code {code}.]"
    return f"\n{payload.message or f'[{_outcome(payload)}]'}"


def _run_ipython(payload: observations.RunIpythonObservation, action: Any) -> Seen:
    code = part_of(action, "code") if isinstance(action, actions.RunIpython) else ""
    extras = {"code": code, "image_urls": payload.image_urls or None}
    return Seen("run_ipython", text_of(payload), extras, "Code executed in IPython cell.", success=True)


def _read(payload: observations.ReadObservation, _: Any) -> Seen | None:
    if payload.encoding != "utf-8" or payload.path is None:
        return None
    extras = {"path": payload.path, "impl_source": "default"}
    return Seen("read", part_of(payload, "content"), extras, f"I read the file {payload.path}.")


def _write(payload: observations.WriteObservation, _: Any) -> Seen | None:
    if payload.path is None:
        return None
    return Seen("write", "", {"path": payload.path}, f"I wrote to the file {payload.path}.")


def _edit(payload: observations.EditObservation, action: Any) -> Seen:
    path = payload.path or ""
    if isinstance(action, actions.Edit) and action.command == "view":
        extras: dict[str, Any] = {"path": path, "impl_source": "oh_aci"}
        return Seen("read", part_of(payload, "content"), extras, f"I read the file {path}.")
    texts: dict[str, Text | None] = {"old_content": None, "new_content": None}
    if isinstance(action, actions.Edit):
        texts = {
            "old_content": _maybe(action, "old_str"),
            "new_content": _maybe(action, "new_str"),
        }
    extras = {
        "path": path,
        "prev_exist": payload.existed,
        **texts,
        "impl_source": "oh_aci",
        "diff": _maybe(payload, "diff"),
    }
    return Seen("edit", part_of(payload, "content"), extras, f"I edited the file {path}.")


def _maybe(payload: Any, name: str) -> Text | None:
    return None if getattr(payload, name) is None else part_of(payload, name)


def _browse(payload: observations.BrowseObservation, _: Any) -> Seen:
    acted = payload if isinstance(payload, observations.BrowseInteractiveObservation) else None
    failed = payload.outcome != Outcome.OK
    extras = {
        "url": payload.url or "",
        "trigger_by_action": "browse" if acted is None else "browse_interactive",
        "screenshot": "",
        "screenshot_path": None,
        "set_of_marks": "",
        "error": failed,
        "goal_image_urls": [],
        "open_pages_urls": payload.open_pages_urls,
        "active_page_index": payload.active_page_index,
        "dom_object": {},
        "axtree_object": payload.axtree or {},
        "extra_element_properties": {},
        "last_browser_action": "" if acted is None else acted.last_browser_action,
        "last_browser_action_error": "" if acted is None else acted.last_browser_action_error,
        "focused_element_bid": "",
        "filter_visible_only": False,
    }
    return Seen("browse", part_of(payload, "content"), extras, "Visited " + (payload.url or ""))


def _call_tool(payload: observations.CallToolMcpObservation, action: Any) -> Seen:
    arguments = action.arguments if isinstance(action, actions.CallToolMcp) else {}
    extras = {"name": payload.name or getattr(action, "name", ""), "arguments": arguments}
    return Seen("mcp", text_of(payload), extras, str(payload.message or ""))


def _state(payload: observations.AgentStateChanged, _: Any) -> Seen:
    extras = {"agent_state": payload.agent_state, "reason": payload.reason}
    return Seen("agent_state_changed", "", extras, "", ENVIRONMENT)


def _delegate(payload: observations.DelegateObservation, _: Any) -> Seen:
    return Seen("delegate", payload.content, {"outputs": payload.outputs})


RECALLED: Final[dict[str, Any]] = {
    "repo_name": "",
    "repo_directory": "",
    "repo_branch": "",
    "repo_instructions": "",
    "runtime_hosts": {},
    "additional_agent_instructions": "",
    "date": "",
    "custom_secrets_descriptions": {},
    "conversation_instructions": "",
    "working_dir": "",
    "microagent_knowledge": [],
}


def _recall(payload: observations.RecallObservation, _: Any) -> Seen:
    known = {name: payload.details.get(name, value) for name, value in RECALLED.items()}
    extras = {"recall_type": payload.recall_type, **known}
    return Seen("recall", payload.content, extras, "", ENVIRONMENT)


def _task_tracking(payload: observations.TaskTrackingObservation, _: Any) -> Seen:
    extras = {"command": payload.command, "task_list": msgspec.to_builtins(payload.task_list)}
    return Seen("task_tracking", payload.content, extras, payload.content)


def _notice(payload: observations.Notice, _: Any) -> Seen:
    content = part_of(payload, "content")
    message = content if isinstance(content, str) else content.fallback
    if payload.level == "error":
        return Seen("error", content, {"error_id": payload.reason}, message)
    return Seen("success", content, {}, message)


def _plain(type: str, source: str = AGENT) -> Callable[[Any, Any], Seen]:
    return lambda payload, _: Seen(type, payload.content, {}, payload.content, source)


_SHAPES: Final[dict[type[Any], Callable[[Any, Any], Seen | None]]] = {
    observations.RunObservation: _run,
    observations.RunIpythonObservation: _run_ipython,
    observations.ReadObservation: _read,
    observations.WriteObservation: _write,
    observations.EditObservation: _edit,
    observations.BrowseObservation: _browse,
    observations.BrowseInteractiveObservation: _browse,
    observations.CallToolMcpObservation: _call_tool,
    observations.AgentStateChanged: _state,
    observations.DelegateObservation: _delegate,
    observations.RecallObservation: _recall,
    observations.CondensationObservation: _plain("condense"),
    observations.TaskTrackingObservation: _task_tracking,
    observations.UserRejected: _plain("user_rejected"),
    observations.Notice: _notice,
    observations.LoopDetection: _plain("loop_detection", ENVIRONMENT),
}
