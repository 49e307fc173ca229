"""What `edit` does: view, create, str_replace, insert, undo_edit, each on what the file really holds."""

from __future__ import annotations

import os
from typing import Any, Final

from chronicled.events.kinds.actions import Edit
from chronicled.runtimes.action_server.files import view
from chronicled.runtimes.action_server.files.charset import UTF8
from chronicled.runtimes.action_server.files.diff import unified_diff
from chronicled.runtimes.action_server.files.failure import BadArguments, FileFailure
from chronicled.runtimes.action_server.files.history import EditHistory
from chronicled.runtimes.action_server.files.replacement import create_file, replace_file
from chronicled.runtimes.action_server.files.text_file import TextFile, load, same_file
from chronicled.runtimes.action_server.files.work import Work
from chronicled.runtimes.action_server.files.writing import IN_PLACE

__all__ = ["edit"]

_MATCHES_MAX: Final = 100
_DIFF_BYTES_MAX: Final = 1 << 19
"""Larger differences are shown in part; the file has them whole."""
_REQUIRED: Final = {
    "view": (),
    "create": ("file_text",),
    "str_replace": ("old_str",),
    "insert": ("insert_line", "new_str"),
    "undo_edit": (),
}


def edit(arguments: Edit, work: Work, history: EditHistory) -> dict[str, Any]:
    """Do one command and return the observation's fields.

    Raises:
        FileFailure: it cannot be done: no match or several, the file exists or is no text, nothing to undo.
        OSError: the system refuses.
        BadArguments: the command lacks something, or was given what makes no sense.
    """
    for name in _REQUIRED[arguments.command]:
        if getattr(arguments, name) is None:
            raise BadArguments(f"{arguments.command} needs {name}")
    path = work.resolve(arguments.path)
    match arguments.command:
        case "view":
            return _view(path, arguments.view_range, work)
        case "create":
            return _create(path, arguments.file_text or "", history)
        case "str_replace":
            return _replace(path, arguments.old_str or "", arguments.new_str or "", history)
        case "insert":
            return _insert(path, arguments.insert_line or 0, arguments.new_str or "", history)
        case "undo_edit":
            return _undo(path, history)


def _view(path: str, view_range: tuple[int, int] | None, work: Work) -> dict[str, Any]:
    if os.path.isdir(path):
        if view_range is not None:
            raise BadArguments("a folder is viewed whole, without a view_range")
        content, truncated = view.tree(path, work)
        return {"path": path, "content": content, "existed": True, "truncated": truncated}
    file = load(path)
    content, truncated = view.view_lines(file.text, view_range)
    return _of(path, file.text, file) | {"content": content, "truncated": truncated}


def _create(path: str, text: str, history: EditHistory) -> dict[str, Any]:
    if os.path.lexists(path):
        raise FileFailure("exists", f"{path} exists; create makes new files only", existed=True)
    try:
        data = text.encode()
    except UnicodeEncodeError as problem:
        raise BadArguments(f"file_text is not valid Unicode: {problem.reason}") from None
    try:
        create_file(path, data)
    except FileExistsError:
        raise FileFailure("exists", f"{path} exists; create makes new files only", existed=True) from None
    history.note(os.path.realpath(path), None, text)
    fields = {"path": path, "existed": False, "charset": UTF8.name, "line_count": _count(text)}
    return fields | _diff(None, text, path)


def _replace(path: str, old: str, new: str, history: EditHistory) -> dict[str, Any]:
    if not old:
        raise BadArguments("old_str is empty: insert puts text where there is none")
    if old == new:
        raise BadArguments("old_str and new_str are the same: nothing would change")
    file = load(path)
    old, new = file.fitted(old), file.fitted(new)
    places = _places(file.text, old)
    if len(places) != 1:
        raise _not_once(path, file.text, old, places)
    text = file.text[: places[0]] + new + file.text[places[0] + len(old) :]
    return _changed(path, file, text, places[0], len(new), history)


def _places(text: str, wanted: str) -> list[int]:
    places: list[int] = []
    at = text.find(wanted)
    while at >= 0 and len(places) <= _MATCHES_MAX:
        places.append(at)
        # One step on and not behind the match: places that overlap are as ambiguous as others.
        at = text.find(wanted, at + 1)
    return places


def _not_once(path: str, text: str, old: str, places: list[int]) -> FileFailure:
    lines = [text.count("\n", 0, place) + 1 for place in places[:_MATCHES_MAX]]
    if places:
        count = len(places) if len(places) <= _MATCHES_MAX else f"more than {_MATCHES_MAX}"
        shown = ", ".join(map(str, lines[:20])) + (", ..." if len(lines) > 20 else "")
        message = (
            f"old_str matches {count} places in {path}, on lines {shown}: give more of what is around the one meant"
        )
        return FileFailure("many_matches", message, existed=True, match_lines=lines)
    message = f"old_str does not match anywhere in {path}; it must be exactly what the file holds"
    if (stripped := old.strip()) and (near := _places(text, stripped)):
        line = text.count("\n", 0, near[0]) + 1
        message += f" (without the white space around it, it would match on line {line})"
    return FileFailure("no_match", message, existed=True, match_lines=[])


def _insert(path: str, line: int, new: str, history: EditHistory) -> dict[str, Any]:
    file = load(path)
    count = _count(file.text)
    if line > count:
        raise FileFailure("no_such_line", f"{path} has {count} lines; insert_line is 0 to {count}", line_count=count)
    at = 0
    for _ in range(line):
        at = file.text.find("\n", at) + 1 or len(file.text)
    new = file.fitted(new)
    # What is inserted stands on lines of its own, whatever it and the file's last line end with.
    newline = file.fitted("\n")
    if at and not file.text[:at].endswith("\n"):
        new = newline + new
    elif new and not new.endswith("\n"):
        new += newline
    return _changed(path, file, file.text[:at] + new + file.text[at:], at, len(new), history)


def _undo(path: str, history: EditHistory) -> dict[str, Any]:
    place = os.path.realpath(path)
    undo = history.last(place)
    if undo is None:
        raise FileFailure("nothing_to_undo", f"there is no edit of {path} to undo: none was made, or too long ago")
    file = load(path)
    if history.digest(file.text) != undo.left:
        raise FileFailure("changed_since", f"{path} is not as its last edit left it, so that edit cannot be undone")
    text = file.text[: undo.start] + undo.old + file.text[undo.start + undo.length :]
    if undo.created:
        os.unlink(place)
        fields: dict[str, Any] = {"path": path, "existed": True} | _diff(file.text, None, path)
    else:
        fields = _written(path, file, text) | {"content": view.around(text, undo.start, len(undo.old))}
    history.forget_last(place)
    return fields


def _changed(path: str, file: TextFile, text: str, start: int, length: int, history: EditHistory) -> dict[str, Any]:
    fields = _written(path, file, text)
    history.note(os.path.realpath(path), file.text, text)
    return fields | {"content": view.around(text, start, length)}


def _written(path: str, file: TextFile, text: str) -> dict[str, Any]:
    data = file.encode(text)
    if not same_file(path, file.status):
        raise FileFailure(
            "changed_meanwhile", f"{path} was changed by somebody else while it was edited: edit it again"
        )
    done = replace_file(path, [data])
    fields = _of(path, text, file) | _diff(file.text, text, path)
    return fields | ({"message": IN_PLACE} if done.in_place else {})


def _diff(old: str | None, new: str | None, path: str) -> dict[str, Any]:
    diff = unified_diff(old, new, path)
    if len(diff) * 4 <= _DIFF_BYTES_MAX or len(data := diff.encode(errors="replace")) <= _DIFF_BYTES_MAX:
        return {"diff": diff}
    whole_lines = data[: data.rindex(b"\n", 0, _DIFF_BYTES_MAX) + 1] if b"\n" in data[:_DIFF_BYTES_MAX] else b""
    return {"diff": whole_lines.decode(), "truncated": True}


def _of(path: str, text: str, file: TextFile) -> dict[str, Any]:
    return {"path": path, "existed": True, "charset": file.charset.name, "line_count": _count(text)}


def _count(text: str) -> int:
    return text.count("\n") + (text != "" and not text.endswith("\n"))
