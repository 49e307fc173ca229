"""Unified differences of a file before and after, computed on what it really held."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["unified_diff"]

_CONTEXT_LINES: Final = 3
_COMPARED_MAX: Final = 4_000_000
"""Most pairs of lines that are compared one by one; a larger change is shown as one block that replaces another."""
_NO_NEWLINE: Final = "\\ No newline at end of file\n"


class _Change(NamedTuple):
    """Lines `old_first` to `old_end` (exclusive, from 0) became `new_first` to `new_end`."""

    old_first: int
    old_end: int
    new_first: int
    new_end: int


def unified_diff(old: str | None, new: str | None, path: str) -> str:
    """Return the differences as `diff -u` and git write them; "" when there are none.

    A line ends with a newline alone, so that a carriage return counts as one of its characters. None stands for a file
    that is not there.
    """
    before, after = _lines(old or ""), _lines(new or "")
    changes = _changes(before, after)
    if not changes and (old is None) == (new is None):
        return ""
    name = path.lstrip("/")
    parts = [
        f"--- {'/dev/null' if old is None else 'a/' + name}\n",
        f"+++ {'/dev/null' if new is None else 'b/' + name}\n",
    ]
    for group in _groups(changes):
        _write_hunk(parts, group, before, after)
    return "".join(parts)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])


def _changes(before: list[str], after: list[str]) -> list[_Change]:
    first, shorter = 0, min(len(before), len(after))
    while first < shorter and before[first] == after[first]:
        first += 1
    same = 0
    while same < shorter - first and before[-1 - same] == after[-1 - same]:
        same += 1
    old_end, new_end = len(before) - same, len(after) - same
    if first == old_end and first == new_end:
        return []
    removed, added = old_end - first, new_end - first
    if not removed or not added or removed * added > _COMPARED_MAX:
        return [_Change(first, old_end, first, new_end)]
    # Imported where it is needed: a server that never edits does without.
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(None, before[first:old_end], after[first:new_end], autojunk=False)
    return [
        _Change(first + a, first + b, first + c, first + d)
        for word, a, b, c, d in matcher.get_opcodes()
        if word != "equal"
    ]


def _groups(changes: list[_Change]) -> list[list[_Change]]:
    groups: list[list[_Change]] = []
    for change in changes:
        if groups and change.old_first - groups[-1][-1].old_end <= 2 * _CONTEXT_LINES:
            groups[-1].append(change)
        else:
            groups.append([change])
    return groups


def _write_hunk(parts: list[str], group: list[_Change], before: list[str], after: list[str]) -> None:
    lead = min(_CONTEXT_LINES, group[0].old_first)
    trail = min(_CONTEXT_LINES, len(before) - group[-1].old_end)
    old_first, old_end = group[0].old_first - lead, group[-1].old_end + trail
    new_first, new_end = group[0].new_first - lead, group[-1].new_end + trail
    parts.append(f"@@ -{_range(old_first, old_end)} +{_range(new_first, new_end)} @@\n")
    at = old_first
    for change in group:
        _write_lines(parts, " ", before[at : change.old_first])
        _write_lines(parts, "-", before[change.old_first : change.old_end])
        _write_lines(parts, "+", after[change.new_first : change.new_end])
        at = change.old_end
    _write_lines(parts, " ", before[at:old_end])


def _range(first: int, end: int) -> str:
    count = end - first
    # An empty range names the line before it.
    start = first + 1 if count else first
    return f"{start}" if count == 1 else f"{start},{count}"


def _write_lines(parts: list[str], sign: str, lines: list[str]) -> None:
    for line in lines:
        parts.append(sign + line)
        if not line.endswith("\n"):
            parts.append("\n" + _NO_NEWLINE)
