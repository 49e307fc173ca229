"""Reading what git prints for programs: NUL-separated records, names as the bytes they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final

from chronicled.runtimes.action_server.files.names import shown

__all__ = ["changed", "status", "untracked"]

_WORDS: Final = {
    "A": "added",
    "C": "copied",
    "D": "deleted",
    "M": "modified",
    "R": "renamed",
    "T": "type_changed",
    "U": "unmerged",
}
_SUBMODULE: Final = b"160000"

Change = dict[str, Any]


def status(output: bytes) -> tuple[dict[str, Any], list[Change]]:
    """Return what `status --porcelain=v2 --branch -z` says of HEAD, and of each file."""
    head: dict[str, Any] = {}
    changes: list[Change] = []
    records = _records(output)
    for record in records:
        word, _, rest = record.partition(b" ")
        if word == b"#":
            _read_head(head, rest)
        elif word in {b"?", b"!"}:
            changes.append(untracked(rest))
        elif word in {b"1", b"2", b"u"}:
            change = _entry(word, rest, next(records, None) if word == b"2" else None)
            if change is not None:
                changes.append(change)
    return head, changes


def _records(output: bytes) -> Iterator[bytes]:
    # What is behind the last NUL is part of a record that was cut off.
    return iter(output.split(b"\0")[:-1])


def _read_head(head: dict[str, Any], line: bytes) -> None:
    key, _, value = line.partition(b" ")
    text = os.fsdecode(value).encode(errors="surrogateescape").decode(errors="replace")
    match key:
        case b"branch.oid" if value != b"(initial)":
            head["commit"] = text
        case b"branch.head" if value != b"(detached)":
            head["branch"] = text
        case b"branch.upstream":
            head["upstream"] = text
        case b"branch.ab":
            counts = text.split(" ")
            if len(counts) == 2 and all(count[1:].isdigit() for count in counts):
                head["ahead"], head["behind"] = int(counts[0][1:]), int(counts[1][1:])
        case _:
            pass


def _entry(word: bytes, rest: bytes, former: bytes | None) -> Change | None:
    # 1: XY sub mH mI mW hH hI path; 2 has a score before the path; u has three stages.
    count = {b"1": 7, b"2": 8, b"u": 9}[word]
    fields = rest.split(b" ", count)
    if len(fields) <= count or len(fields[0]) != 2 or (word == b"2" and former is None):
        return None
    letters = fields[0].decode("latin-1")
    index, worktree = letters[0], letters[1]
    change: Change = {
        **shown(fields[count], "path"),
        "status": "unmerged" if word == b"u" else _word(index, worktree),
        "index": index,
        "worktree": worktree,
        "submodule": fields[1].startswith(b"S"),
    }
    if former is not None:
        change["former_path"] = former.decode(errors="replace")
        change["status"] = _WORDS.get(fields[7][:1].decode(errors="replace"), "renamed")
    return change


def _word(index: str, worktree: str) -> str:
    if worktree == "D" or index == "D":
        return "deleted"
    for letter in ("A", "R", "C", "T", "M"):
        if letter in (index, worktree):
            return _WORDS[letter]
    return "unknown"


def untracked(path: bytes) -> Change:
    """Return the change that a file is which git does not know."""
    return {**shown(path, "path"), "status": "untracked"}


def changed(output: bytes) -> list[Change]:
    """Return the files in the output of `diff --raw --numstat -z`."""
    by_path: dict[bytes, Change] = {}
    records = _records(output)
    for record in records:
        if record.startswith(b":"):
            fields = record[1:].split(b" ")
            former = next(records, None) if fields[-1][:1] in {b"R", b"C"} else None
            path = next(records, None)
            if path is None or len(fields) < 5:
                break
            by_path[path] = _raw(path, former, fields)
        else:
            added, deleted, path = (*record.split(b"\t", 2), b"", b"")[:3]
            if not path:
                next(records, None)
                path = next(records, b"")
            if path in by_path:
                _count(by_path[path], added, deleted)
    return list(by_path.values())


def _raw(path: bytes, former: bytes | None, fields: list[bytes]) -> Change:
    change: Change = {
        **shown(path, "path"),
        "status": _WORDS.get(fields[4][:1].decode(errors="replace"), "unknown"),
        "submodule": _SUBMODULE in fields[:2],
    }
    if former is not None:
        change["former_path"] = former.decode(errors="replace")
    return change


def _count(change: Change, added: bytes, deleted: bytes) -> None:
    if added == b"-" or deleted == b"-":
        change["binary"] = True
    elif added.isdigit() and deleted.isdigit():
        change["lines_added"], change["lines_deleted"] = int(added), int(deleted)
