"""Steps that bring an action of any release to the shape of 0.62.0, oldest change first.

There is no version in the records, so each step begins with a test of the shape. A step never guesses: what it cannot
carry over is noted as lost, or makes the record unreadable where going on would change what was wanted.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from typing import Any, Final

from chronicled.migrations.openhands.v0.envelope import Envelope, Unreadable, empty, is_object, text

__all__ = ["bring_on"]

Step = Callable[[Envelope], None]

TASK_STATES: Final = {"pause": "paused", "resume": "running", "stop": "stopped"}
SPOKEN: Final = frozenset({"user_message", "talk", "echo", "chat", "start"})
EDITOR_CALL: Final = "print(file_editor(**"
MCP_RELEASE: Final = "0.36.1"


def bring_on(envelope: Envelope) -> None:
    """Take every step that the action's shape asks for.

    Raises:
        Unreadable: no event of ours would mean the same.
    """
    for step in _STEPS.get(envelope.type, _COMMON):
        step(envelope)


def _renamed_types(e: Envelope) -> None:
    if e.type == "change_task_state":
        e.step("0.5.2", "change_task_state is change_agent_state")
        e.type = "change_agent_state"
        if "task_state" in e.fields:
            e.fields["agent_state"] = e.fields.pop("task_state")
    elif e.type in TASK_STATES:
        e.step("0.5.2", f"{e.type} is a change of the agent's state")
        e.fields["agent_state"] = TASK_STATES[e.type]
        e.type = "change_agent_state"
    elif e.type in SPOKEN:
        e.step("0.5.3", f"{e.type} is a message")
        said = e.fields.pop("task", None) if e.type == "start" else e.fields.pop("message", None)
        e.fields.setdefault("content", said)
        if e.source is None and e.type != "talk":
            e.source = "user"
        e.type = "message"
        if not isinstance(e.fields.get("content"), str):
            raise Unreadable("a message of before 0.5.3 without a text")
    elif e.type == "summarize":
        e.step("0.30.1", "summarize is a thought")
        e.fields["thought"] = text(e.fields.pop("summary", None) or e.fields.get("thought"))
        e.type = "think"
    elif e.type == "think" and "thought" not in e.fields and "content" in e.fields:
        e.fields["thought"] = e.fields.pop("content")


def _common(e: Envelope) -> None:
    fields = e.fields
    if "timestamp" in fields:
        e.step("0.9.4", "a time among the fields is dropped")
        stray = fields.pop("timestamp")
        if e.time is None and isinstance(stray, str):
            e.time = stray
    if "thoughts" in fields:
        e.step("0.5.0", "thoughts is thought")
        fields.setdefault("thought", text(fields.pop("thoughts")))
    if "action_risk" in fields:
        e.step("0.12.0", "action_risk is security_risk")
        fields.setdefault("security_risk", fields.pop("action_risk"))
    if fields.get("security_risk", -1) is None:
        e.step("0.55.0", "no security_risk is unknown")
        del fields["security_risk"]
    if "is_confirmed" in fields:
        e.step("0.12.0", "is_confirmed is confirmation_state")
        state = fields.pop("is_confirmed")
        if isinstance(state, bool):
            state = "confirmed" if state else "rejected"
        fields.setdefault("confirmation_state", state)


def _run(e: Envelope) -> None:
    fields = e.fields
    if "background" in fields:
        e.step("0.8.0", "background is gone")
        e.lose("background")
        del fields["background"]
    if "keep_prompt" in fields:
        e.step("0.19.0", "keep_prompt is gone")
        if fields.pop("keep_prompt") is False:
            e.lost.append("args.keep_prompt")


def _message(e: Envelope) -> None:
    if "images_urls" in e.fields:
        e.step("0.13.1", "images_urls is image_urls")
        e.fields.setdefault("image_urls", e.fields.pop("images_urls"))


def _finish(e: Envelope) -> None:
    if "task_completed" in e.fields:
        e.step("0.52.0", "task_completed is one of the outputs")
        value = e.fields.pop("task_completed")
        outputs: Any = e.fields.get("outputs")
        if not empty(value):
            kept = outputs if is_object(outputs) else {}
            e.fields["outputs"] = {**kept, "task_completed": value}


def _recall(e: Envelope) -> None:
    if "recall_type" not in e.fields:
        # The same word before 0.8.0 and since 0.29.0, for two things; the older one asked the agent's long memory.
        e.step("0.8.0", "recall from memory is recall of knowledge")
        e.fields["recall_type"] = "knowledge"


def _mcp(e: Envelope) -> None:
    arguments = e.fields.get("arguments")
    if arguments is None and "arguments" in e.fields:
        e.step(MCP_RELEASE, "no arguments are an object")
        e.fields["arguments"] = {}
    elif isinstance(arguments, str):
        e.step(MCP_RELEASE, "arguments as text are an object")
        value: Any = {}
        try:
            if arguments.strip():
                value = json.loads(arguments)
        except (ValueError, RecursionError):
            raise Unreadable("the arguments of the tool are no JSON") from None
        if not is_object(value):
            raise Unreadable(f"the arguments of the tool are an object, not {type(value).__name__}")
        e.fields["arguments"] = value


def _editor(e: Envelope) -> None:
    """Undo the years in which an editor's call was stored as the Python text that made it (0.17.0 to 0.24.0)."""
    code = e.fields.pop("translated_ipython_code", None)
    if code is None or code == "":
        return
    e.step("0.24.0", "an editor's call is its arguments")
    call = _call(text(code))
    if call is None:
        e.lost.append("args.translated_ipython_code")
        return
    if e.type == "read":
        call.pop("command", None)
    for name, value in call.items():
        if empty(e.fields.get(name)):
            e.fields[name] = value
    e.fields["impl_source"] = "oh_aci"


def _call(code: str) -> dict[str, Any] | None:
    start, end = code.find(EDITOR_CALL), code.rfind("))")
    if start < 0 or end < 0:
        return None
    try:
        # Only literals are read: nothing of it is run.
        value = ast.literal_eval(code[start + len(EDITOR_CALL) : end])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if is_object(value) else None


def _draft_edit(e: Envelope) -> None:
    if empty(e.fields.get("command")):
        if e.fields.get("impl_source", "llm_based_edit") == "llm_based_edit" or not empty(e.fields.get("content")):
            # Its default became another editor's in 0.24.0: read as that, it would be an edit that does nothing.
            e.releases.append("0.24.0")
            raise Unreadable(
                "an edit by a draft, which a language model applied (0.11.0 to 0.24.0), has no counterpart"
            )
        raise Unreadable("an edit without a command")


def _removed(e: Envelope) -> None:
    release = _REMOVED[e.type]
    e.releases.append(release)
    raise Unreadable(f"the action {e.type} was removed in {release}, and has no counterpart")


_REMOVED: Final = {
    "kill": "0.8.0",
    "add_task": "0.19.0",
    "modify_task": "0.19.0",
    "initialize": "0.22.0",
}
_COMMON: Final[tuple[Step, ...]] = (_common,)
_STEPS: Final[dict[str, tuple[Step, ...]]] = {
    "run": (_common, _run),
    "message": (_common, _message),
    "finish": (_common, _finish),
    "recall": (_common, _recall),
    "call_tool_mcp": (_common, _mcp),
    "read": (_common, _editor),
    "edit": (_common, _editor, _draft_edit),
    "think": (_renamed_types, _common),
    **dict.fromkeys((*TASK_STATES, *SPOKEN, "change_task_state", "summarize"), (_renamed_types, _common, _message)),
    **dict.fromkeys(_REMOVED, (_removed,)),
}
