"""What came of a tool's call, in our words: the tools' classes inside `ObservationEvent`, refusals and errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.openhands.v1.reading import Reading, empty, items, mapping, text

__all__ = ["asked", "ended", "refused", "said", "troubled"]

FORMER_TEXTS: Final = ("output", "message", "error")
"""Where an observation said what it had to say, before 1.0.0."""
METADATA: Final = ("pid", "username", "hostname", "py_interpreter_path", "prefix")
QUIET: Final = re.compile(r"no new output after ([\d.]+) seconds")
TIMED_OUT: Final = re.compile(r"timed out after ([\d.]+) seconds")
COMPLETED: Final = re.compile(r"\s*\[The command completed with exit code -?\d+\.?[^\]]*\]\s*")
CLIPPED: Final = "<response clipped>"
"""What the SDK writes in place of what it leaves out of a long output."""
COMMANDS: Final = frozenset({"TerminalObservation", "ExecuteBashObservation", "BashObservation"})
RESTARTED: Final = ("restart", "crash", "interrupted")

Fields = dict[str, Any]


def said(r: Reading) -> tuple[str, list[str], bool]:
    """Return the text and the images of an `ObservationEvent`, and whether it tells of an error."""
    o = mapping(r.value.get("observation"))
    if "content" in o:
        content, images = r.texts(o["content"], "observation.content")
        return content, images, o.get("is_error") is True or (isinstance(o.get("error"), str) and bool(o["error"]))
    former = [text(o[name]) for name in FORMER_TEXTS if isinstance(o.get(name), str) and o[name]]
    if former or any(name in o for name in FORMER_TEXTS):
        r.step("1.0.0", "output and error are content")
    error = o.get("error")
    return "\n".join(former), [], o.get("is_error") is True or error is True or (isinstance(error, str) and bool(error))


def asked(r: Reading) -> tuple[str, Fields] | None:
    """Return kind and fields of the action that the observation ends, where it tells all that was asked."""
    o = mapping(r.value.get("observation"))
    command = o.get("command")
    if o.get("kind") in COMMANDS and isinstance(command, str) and command:
        return "run", {"command": command}
    return None


def ended(r: Reading, kind: str) -> Fields:
    """Return the fields of the terminal observation of an action of that kind."""
    o = mapping(r.value.get("observation"))
    content, images, error = said(r)
    make = _ENDINGS[kind]
    fields, taken = make(r, o, content, error)
    fields.setdefault("outcome", Outcome.FAILED if error else Outcome.OK)
    fields.setdefault("effects", Effects.COMPLETE)
    if fields["outcome"] == Outcome.FAILED and error:
        fields.setdefault("reason", "tool_error")
    r.lose_rest({"content", "is_error", *FORMER_TEXTS, *taken}, o, "observation.")
    if images and kind != "call_tool_mcp":
        r.lost.append("observation.content")
    elif images:
        fields["result"] = {**mapping(fields.get("result")), "image_urls": images}
    r.lose_rest({"observation", "action_id", "tool_name", "tool_call_id"})
    return fields


def _run(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    metadata = mapping(o.get("metadata"))
    code = o.get("exit_code", metadata.get("exit_code"))
    fields = r.output(content, cut=CLIPPED in content)
    if directory := metadata.get("working_dir"):
        fields["working_directory"] = text(directory)
    r.lost.extend(
        f"observation.metadata.{name}" for name in METADATA if not empty(metadata.get(name)) and metadata[name] != -1
    )
    taken = {"command", "exit_code", "timeout", "metadata"}
    suffix = metadata.get("suffix")
    told = suffix if isinstance(suffix, str) else ""
    timeout = o.get("timeout") is True or TIMED_OUT.search(told) is not None
    if type(code) is int and code != -1 and not timeout:
        fields["exit_code"] = code
        fields["outcome"] = Outcome.OK if code == 0 and not error else Outcome.FAILED
    elif timeout or QUIET.search(told):
        # The command may run on: the tool only looked away.
        fields |= {"outcome": Outcome.TIMEOUT, "effects": Effects.POSSIBLE, "reason": "still_running"}
        fields["deadline"] = "quiet" if QUIET.search(told) else "command"
    elif not error:
        fields |= {"outcome": Outcome.UNKNOWN, "effects": Effects.POSSIBLE, "reason": "no_exit_code"}
    if told.strip() and COMPLETED.fullmatch(told) is None:
        fields["message"] = told.strip()
    return fields, taken


def _edit(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    fields: Fields = {"content": content, "existed": o.get("prev_exist") is True or o.get("is_new_file") is False}
    if path := o.get("path") or o.get("file_path"):
        fields["path"] = text(path)
    # What the file held before and after stays with the original: our field is for the difference.
    return fields, {"path", "file_path", "prev_exist", "is_new_file", "command"}


def _write(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    fields: Fields = {"existed": o.get("is_new_file") is False}
    if content:
        fields["message"] = content
    if o.get("file_path"):
        fields["path"] = text(o["file_path"])
    if isinstance(o.get("new_content"), str):
        fields["bytes_written"] = len(o["new_content"].encode(errors="replace"))
    return fields, {"file_path", "is_new_file"}


def _read(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    whole = o.get("file_content")
    shown = whole if isinstance(whole, str) and whole else content
    fields: Fields = {"content": shown, "truncated": o.get("is_truncated") is True}
    if shown is not content and content and content not in shown:
        r.lost.append("observation.content")
    if o.get("file_path"):
        fields["path"] = text(o["file_path"])
    if type(o.get("total_lines")) is int:
        fields["line_count"] = o["total_lines"]
    return fields, {"file_path", "file_content", "is_truncated", "total_lines"}


def _list(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    entries: list[Fields] = []
    for item in items(o.get("entries")):
        entry = mapping(item)
        size = entry.get("size")
        entries.append(
            {
                "name": text(entry.get("name")),
                "type": "directory" if entry.get("is_directory") is True else "file",
                "size": size if type(size) is int else 0,
                "modified": text(entry.get("modified_time")) or None,
            }
        )
    fields: Fields = {"entries": entries, "truncated": o.get("is_truncated") is True}
    if content:
        fields["message"] = content
    if o.get("dir_path"):
        fields["path"] = text(o["dir_path"])
    return fields, {"dir_path", "entries", "is_truncated", "total_count"}


def _browse(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    return {"content": content, "screenshot": r.image(o.get("screenshot_data"))}, {"screenshot_data"}


def _tool(r: Reading, o: Mapping[str, Any], content: str, error: bool) -> tuple[Fields, set[str]]:
    around = {"kind", "content", "is_error", "tool_name", *FORMER_TEXTS}
    rest = {name: item for name, item in o.items() if name not in around and not empty(item)}
    fields: Fields = {"content": content, "name": text(o.get("tool_name") or r.value.get("tool_name")) or None}
    if "screenshot_data" in rest:
        rest["screenshot_data"] = f"blob:{r.image(rest['screenshot_data'])}"
    if rest:
        fields["result"] = rest
    return fields, set(o)


_ENDINGS: Final[Mapping[str, Callable[[Reading, Mapping[str, Any], str, bool], tuple[Fields, set[str]]]]] = {
    "run": _run,
    "edit": _edit,
    "write": _write,
    "read": _read,
    "list": _list,
    "browse": _browse,
    "call_tool_mcp": _tool,
}


def refused(r: Reading) -> Fields:
    """Return the fields of the end of an action that a user or a hook refused."""
    source = r.value.get("rejection_source", "user")
    r.lose_rest({"rejection_reason", "rejection_source", "action_id", "tool_name", "tool_call_id"})
    return {
        "outcome": Outcome.REJECTED,
        "effects": Effects.NONE,
        "reason": "hook_rejected" if source == "hook" else "user_rejected",
        "message": text(r.value.get("rejection_reason")),
    }


def troubled(r: Reading, *, executable: bool) -> Fields:
    """Return the fields of the end of an action that the agent's own machinery reported an error for.

    Args:
        r: The `AgentErrorEvent`.
        executable: Whether the call had become an action: only then can it have run.
    """
    message = text(r.value.get("error"))
    r.lose_rest({"error", "tool_name", "tool_call_id", "classification"})
    classification = mapping(r.value.get("classification"))
    fields: Fields = {"message": message, "reason": text(classification.get("kind")) or "agent_error"}
    if not executable:
        return fields | {"outcome": Outcome.ERROR, "effects": Effects.NONE}
    lost = any(word in message.lower() for word in RESTARTED)
    return fields | {"outcome": Outcome.UNKNOWN if lost else Outcome.FAILED, "effects": Effects.POSSIBLE}
