"""Observations of OpenHands 0.62.0 in our words: ends of actions, and what else there was to see."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.openhands.v0.blobs import image, image_list, output
from chronicled.migrations.openhands.v0.envelope import Envelope, Unreadable, empty, is_object, text

__all__ = ["ENDINGS", "NOTED", "Ending", "read_ending", "read_noted"]


class Ending(msgspec.Struct):
    """How an action ended: what our terminal observation of its kind is made of."""

    kind: str
    """Kind of the action that such an observation belongs to."""
    outcome: Outcome
    effects: Effects
    fields: dict[str, Any] = {}
    """Of that kind's terminal observation."""
    reason: str | None = None
    message: str | None = None
    deadline: str | None = None
    asked: dict[str, Any] = {}
    """Fields of the action's payload, where the observation tells all that was asked; for where that is missing."""

    def common(self) -> dict[str, Any]:
        """Return the fields that every terminal observation has."""
        found: dict[str, Any] = {"outcome": self.outcome, "effects": self.effects}
        if self.reason is not None:
            found["reason"] = self.reason
        if self.message is not None:
            found["message"] = self.message
        if self.deadline is not None:
            found["deadline"] = self.deadline
        return found


QUIET: Final = re.compile(r"no new output after ([\d.]+) seconds")
TIMED_OUT: Final = re.compile(r"timed out after ([\d.]+) seconds")
NEVER_RAN: Final = "AGENT_ERROR$BAD_ACTION"
METADATA: Final = ("pid", "username", "hostname", "py_interpreter_path", "prefix")
COMPLETED: Final = re.compile(r"\s*\[The command completed with exit code -?\d+\.[^\]]*\]\s*")


def read_ending(e: Envelope, kind: str | None) -> Ending:
    """Return how an action ended; `kind` is the kind of that action where it is known.

    Raises:
        Unreadable: the observation ends no action, or its fields cannot be read.
    """
    taken, read = ENDINGS[e.type]
    if e.type == "browse" and kind in {"browse", "browse_interactive"}:
        e.fields["trigger_by_action"] = kind
    ending = read(e)
    e.lose_rest(taken)
    return ending


def _run(e: Envelope) -> Ending:
    fields, content = e.fields, text(e.content)
    found: Any = fields.get("metadata")
    metadata = found if is_object(found) else {}
    code = metadata.get("exit_code", -1)
    payload = output(e, content)
    if directory := metadata.get("working_dir"):
        payload["working_directory"] = text(directory)
    for name in METADATA:
        if (value := metadata.get(name)) is not None and not empty(value):
            e.lost.append(f"extras.metadata.{name}")
    suffix = metadata.get("suffix")
    said = suffix if isinstance(suffix, str) else ""
    ending = Ending("run", Outcome.OK, Effects.COMPLETE, payload, asked={"command": text(fields.get("command"))})
    if type(code) is int and code != -1:
        payload["exit_code"] = code
        if code != 0:
            ending.outcome = Outcome.FAILED
        if said and not COMPLETED.fullmatch(said):
            e.lost.append("extras.metadata.suffix")
        return ending
    # -1 said three things: still running when it was looked at, ended for time, or not known.
    ending.effects = Effects.POSSIBLE
    told = said or content[-512:]
    if QUIET.search(told):
        ending.outcome, ending.deadline, ending.reason = Outcome.TIMEOUT, "quiet", "still_running"
    elif TIMED_OUT.search(told):
        ending.outcome, ending.deadline, ending.reason = Outcome.TIMEOUT, "command", "still_running"
    else:
        ending.outcome, ending.reason = Outcome.UNKNOWN, "no_exit_code"
    if said:
        ending.message = said.strip()
    return ending


def _run_ipython(e: Envelope) -> Ending:
    payload = output(e, text(e.content))
    payload["image_urls"] = image_list(e, e.fields.get("image_urls"))
    return Ending("run_ipython", Outcome.OK, Effects.COMPLETE, payload, asked={"code": text(e.fields.get("code"))})


def _read(e: Envelope) -> Ending:
    content, path = text(e.content), text(e.fields.get("path"))
    return _told("read", content, {"path": path, "content": content}, {"path": path})


def _write(e: Envelope) -> Ending:
    path = text(e.fields.get("path"))
    return _told("write", text(e.content), {"path": path}, {})


def _edit(e: Envelope) -> Ending:
    fields, content = e.fields, text(e.content)
    path = text(fields.get("path"))
    payload: dict[str, Any] = {"path": path, "content": content, "existed": fields.get("prev_exist") is True}
    if fields.get("diff") is not None:
        payload["diff"] = text(fields["diff"])
    return _told("edit", content, payload, {})


def _told(kind: str, content: str, payload: dict[str, Any], asked: dict[str, Any]) -> Ending:
    """Return the end of what tells a failure only by its words."""
    ending = Ending(kind, Outcome.OK, Effects.COMPLETE, payload, asked=asked)
    if content.startswith("ERROR:"):
        ending.outcome, ending.reason = Outcome.FAILED, "tool_error"
    return ending


def _browse(e: Envelope) -> Ending:
    fields = e.fields
    trigger = fields.get("trigger_by_action", "browse")
    if trigger not in {"browse", "browse_interactive"}:
        e.lost.append("extras.trigger_by_action")
        trigger = "browse"
    url = text(fields.get("url"))
    payload: dict[str, Any] = {
        "url": url,
        "content": text(e.content),
        "screenshot": image(e, fields.get("screenshot")),
        "open_pages_urls": fields.get("open_pages_urls") or [],
    }
    if type(fields.get("active_page_index")) is int:
        payload["active_page_index"] = fields["active_page_index"]
    elif isinstance(fields.get("active_page_index"), list):
        e.lost.append("extras.active_page_index")
    if fields.get("axtree_object"):
        payload["axtree"] = fields["axtree_object"]
    last = {name: text(fields.get(name)) for name in ("last_browser_action", "last_browser_action_error")}
    if trigger == "browse_interactive":
        payload.update(last)
    elif last["last_browser_action_error"]:
        e.lost.append("extras.last_browser_action_error")
    ending = Ending(trigger, Outcome.OK, Effects.COMPLETE, payload, asked={"url": url})
    if trigger == "browse_interactive":
        ending.asked = {"browser_actions": last["last_browser_action"]}
    if fields.get("error"):
        ending.outcome, ending.reason = Outcome.FAILED, "browser_error"
    return ending


def _mcp(e: Envelope) -> Ending:
    fields = e.fields
    name = fields.get("name")
    payload: dict[str, Any] = {"name": text(name) if name else None, "content": text(e.content)}
    arguments: Any = fields.get("arguments")
    asked: dict[str, Any] = {"name": text(name), "arguments": arguments if is_object(arguments) else {}}
    return Ending("call_tool_mcp", Outcome.OK, Effects.COMPLETE, payload, asked=asked)


def _error(e: Envelope) -> Ending:
    error = text(e.fields.get("error_id"))
    ending = Ending("", Outcome.FAILED, Effects.POSSIBLE, message=text(e.content), reason=error or "error")
    if error == NEVER_RAN:
        ending.outcome, ending.effects = Outcome.ERROR, Effects.NONE
    elif error.startswith("AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED"):
        # Written when the agent was reset with an action under way: nobody looked whether it had run.
        ending.outcome = Outcome.UNKNOWN
    return ending


def _user_rejected(e: Envelope) -> Ending:
    return Ending("", Outcome.REJECTED, Effects.NONE, message=text(e.content), reason="user_rejected")


def _success(e: Envelope) -> Ending:
    return Ending("", Outcome.OK, Effects.COMPLETE, message=text(e.content))


def _download(e: Envelope) -> Ending:
    path = text(e.fields.get("file_path"))
    return Ending("", Outcome.OK, Effects.COMPLETE, message=text(e.content) or f"downloaded to {path}")


ENDINGS: Final[Mapping[str, tuple[frozenset[str], Callable[[Envelope], Ending]]]] = {
    "run": (frozenset({"command", "metadata", "hidden"}), _run),
    "run_ipython": (frozenset({"code", "image_urls"}), _run_ipython),
    "read": (frozenset({"path", "impl_source"}), _read),
    "write": (frozenset({"path"}), _write),
    "edit": (frozenset({"path", "prev_exist", "diff", "impl_source"}), _edit),
    "browse": (
        frozenset(
            {
                "url", "screenshot", "open_pages_urls", "active_page_index", "axtree_object", "last_browser_action",
                "last_browser_action_error", "error", "trigger_by_action",
            }
        ),
        _browse,
    ),
    "mcp": (frozenset({"name", "arguments"}), _mcp),
    "error": (frozenset({"error_id"}), _error),
    "user_rejected": (frozenset(), _user_rejected),
    "success": (frozenset(), _success),
    "download": (frozenset({"file_path"}), _download),
}  # fmt: skip
"""By type: the fields that find a place, and what reads them. A kind of "" ends whatever action it belongs to."""


def read_noted(e: Envelope) -> tuple[str, dict[str, Any]] | None:
    """Return our kind and the payload of an observation that ends no action; None for one that says nothing.

    Raises:
        Unreadable: there is no such observation.
    """
    entry = NOTED.get(e.type)
    if entry is None:
        raise Unreadable(f"there is no observation {e.type[:64]!r}")
    taken, read = entry
    made = read(e)
    if e.type != "recall":
        e.lose_rest(taken)
    return made


def _nothing(e: Envelope) -> None:
    if not empty(e.content):
        e.lost.append("content")


def _notice(level: str) -> Callable[[Envelope], tuple[str, dict[str, Any]]]:
    def read(e: Envelope) -> tuple[str, dict[str, Any]]:
        reason = text(e.fields.get("error_id"))
        return "notice", {"content": text(e.content), "level": level, "reason": reason}

    return read


def _status(e: Envelope) -> tuple[str, dict[str, Any]]:
    return "notice", {"content": text(e.content), "reason": "status"}


def _noted_download(e: Envelope) -> tuple[str, dict[str, Any]]:
    path = text(e.fields.get("file_path"))
    return "notice", {"content": text(e.content) or f"downloaded to {path}", "reason": "download"}


def _noted_rejection(e: Envelope) -> tuple[str, dict[str, Any]]:
    return "user_rejected", {"content": text(e.content)}


def _agent_state(e: Envelope) -> tuple[str, dict[str, Any]]:
    if not empty(e.content):
        e.lost.append("content")
    fields = e.fields
    return "agent_state_changed", {"agent_state": text(fields["agent_state"]), "reason": text(fields.get("reason"))}


def _delegate(e: Envelope) -> tuple[str, dict[str, Any]]:
    return "delegate", {"content": text(e.content), "outputs": e.fields.get("outputs") or {}}


def _recall(e: Envelope) -> tuple[str, dict[str, Any]]:
    details = {name: item for name, item in e.fields.items() if name != "recall_type" and not empty(item)}
    return "recall", {"recall_type": e.fields["recall_type"], "content": text(e.content), "details": details}


def _condense(e: Envelope) -> tuple[str, dict[str, Any]]:
    return "condensation", {"content": text(e.content)}


def _task_tracking(e: Envelope) -> tuple[str, dict[str, Any]]:
    command = e.fields.get("command") or "view"
    tasks: Any = e.fields.get("task_list") or []
    return "task_tracking", {"command": command, "content": text(e.content), "task_list": tasks}


def _loop_detection(e: Envelope) -> tuple[str, dict[str, Any]]:
    return "loop_detection", {"content": text(e.content)}


NOTED: Final[Mapping[str, tuple[frozenset[str], Callable[[Envelope], tuple[str, dict[str, Any]] | None]]]] = {
    "null": (frozenset(), _nothing),
    "think": (frozenset(), _nothing),
    "error": (frozenset({"error_id"}), _notice("error")),
    "success": (frozenset(), _notice("success")),
    "message": (frozenset(), _notice("info")),
    "status": (frozenset(), _status),
    "chat": (frozenset(), _notice("info")),
    "download": (frozenset({"file_path"}), _noted_download),
    "user_rejected": (frozenset(), _noted_rejection),
    "agent_state_changed": (frozenset({"agent_state", "reason"}), _agent_state),
    "delegate": (frozenset({"outputs"}), _delegate),
    "recall": (frozenset({"recall_type"}), _recall),
    "condense": (frozenset(), _condense),
    "task_tracking": (frozenset({"command", "task_list"}), _task_tracking),
    "loop_detection": (frozenset(), _loop_detection),
}
