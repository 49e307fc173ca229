"""Showing text with its lines numbered, and folders two levels deep."""

from __future__ import annotations

import os
import stat
from typing import Final

from chronicled.runtimes.action_server.files.failure import BadArguments
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["VIEW_BYTES_MAX", "around", "numbered", "tree", "view_lines"]

VIEW_BYTES_MAX: Final = 1 << 20
"""Most that one view shows, in UTF-8."""
_NAMES_MAX: Final = 5000
_AROUND_LINES: Final = 4
_AROUND_BYTES_MAX: Final = 64 << 10


def view_lines(text: str, view_range: tuple[int, int] | None) -> tuple[str, bool]:
    """Return the lines of the range, numbered, and whether some were left out for their size.

    Raises:
        BadArguments: the range begins before line 1 or ends before it begins. One that ends behind the last line ends
            with it; -1 is the last line.
    """
    if view_range is None:
        return numbered(text, 1, None)
    first, last = view_range
    if first < 1 or (last != -1 and last < first):
        raise BadArguments(f"view_range is [first, last] from line 1 on, -1 for the last, not {list(view_range)}")
    return numbered(text, first, None if last == -1 else last)


def numbered(text: str, first: int, last: int | None, bytes_max: int = VIEW_BYTES_MAX) -> tuple[str, bool]:
    """Return lines `first` to `last` as `cat -n` shows them, and whether some were left out for their size."""
    parts: list[str] = []
    start, number, size = 0, 1, 0
    while start < len(text) and (last is None or number <= last):
        end = text.find("\n", start) + 1 or len(text)
        if number >= first:
            line = f"{number:6}\t{text[start:end]}"
            size += len(line.encode(errors="replace"))
            if size > bytes_max:
                return "".join(parts), True
            parts.append(line)
        start, number = end, number + 1
    return "".join(parts), False


def around(text: str, start: int, length: int) -> str:
    """Return the lines around a change, numbered."""
    first = text.count("\n", 0, start) + 1
    last = first + text.count("\n", start, start + length)
    return numbered(text, max(1, first - _AROUND_LINES), last + _AROUND_LINES, _AROUND_BYTES_MAX)[0]


def tree(path: str, work: Work) -> tuple[str, bool]:
    """Return what a folder holds, two levels deep, one path a line, folders with a slash; hidden names left out.

    Raises:
        OSError: the folder itself cannot be read.
    """
    lines = [_line(path + "/")]
    # One level of names is sorted at a time; what is beyond the cap is told and not kept.
    for name, is_folder in _names(path):
        work.check()
        lines.append(_line(os.path.join(path, name) + ("/" if is_folder else "")))
        if is_folder:
            try:
                below = _names(os.path.join(path, name))
            except OSError:
                continue
            lines += (_line(os.path.join(path, name, each) + ("/" if folder else "")) for each, folder in below)
        if len(lines) > _NAMES_MAX:
            return "\n".join(lines[:_NAMES_MAX]) + "\n", True
    return "\n".join(lines) + "\n", False


def _names(path: str) -> list[tuple[str, bool]]:
    import heapq

    with os.scandir(path) as entries:
        shown = ((each.name, _is_folder(each)) for each in entries if not each.name.startswith("."))
        return heapq.nsmallest(_NAMES_MAX + 1, shown)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode)
    except OSError:
        return False


def _line(path: str) -> str:
    return os.fsencode(path).decode(errors="replace").replace("\n", "\\n")
