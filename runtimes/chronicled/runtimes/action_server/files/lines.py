"""Finding a range of lines in a file of any size, and counting its lines, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from chronicled.runtimes.action_server.files.charset import Charset

__all__ = ["COUNT_BYTES_MAX", "LineRange", "find_lines"]

COUNT_BYTES_MAX: Final = 256 << 20
"""A larger file's lines are not counted."""


class LineRange(NamedTuple):
    """Some lines of a file."""

    data: bytes
    """The lines as they are, newlines included."""
    offset: int
    """Where in the file they begin."""
    line_count: int | None
    """How many lines the whole file has; None when it is too large to count."""
    cut: bool
    """The lines that were asked for have more bytes than were kept."""


def find_lines(pieces: Iterator[bytes], charset: Charset, first: int, last: int | None, bytes_max: int) -> LineRange:
    """Return lines `first` to `last`, from 1, of what the pieces make up; None stands for the last line.

    A line ends with a newline; what follows the last newline is a line too, unless it is empty.
    """
    kept: list[bytes] = []
    size, position, ended, begin = 0, 0, 0, -1
    done = trailing = False
    for piece in pieces:
        newlines, start, before = _count(piece, position, charset), 0, 0
        if begin < 0 and first - 1 - ended <= newlines:
            before = first - 1 - ended
            start = _skip(piece, position, charset, before, 0)
            begin = position + start
        if begin >= 0 and not done and size <= bytes_max:
            end = -1 if last is None else _skip(piece, position, charset, last - ended - before, start)
            done = end >= 0
            kept.append(piece[start : end if done else len(piece)][: bytes_max - size + 1])
            size += len(kept[-1])
        ended += newlines
        trailing = not _ends_line(piece, position, charset)
        position += len(piece)
        if position >= COUNT_BYTES_MAX and (done or size > bytes_max):
            return LineRange(b"".join(kept)[:bytes_max], begin, None, size > bytes_max)
    return LineRange(b"".join(kept)[:bytes_max], position if begin < 0 else begin, ended + trailing, size > bytes_max)


def _count(piece: bytes, position: int, charset: Charset) -> int:
    if charset.width == 1:
        return piece.count(charset.newline)
    found, start = 0, 0
    while (start := _next(piece, position, charset, start)) >= 0:
        found += 1
    return found


def _next(piece: bytes, position: int, charset: Charset, start: int) -> int:
    """Return where the next line begins, -1 when no line ends in the rest of the piece."""
    while (index := piece.find(charset.newline, start)) >= 0:
        if (position + index) % charset.width == 0:
            return index + len(charset.newline)
        start = index + 1
    return -1


def _skip(piece: bytes, position: int, charset: Charset, newlines: int, start: int) -> int:
    """Return where the piece goes on behind so many newlines, -1 when it has fewer."""
    for _ in range(newlines):
        start = _next(piece, position, charset, start)
        if start < 0:
            return -1
    return start


def _ends_line(piece: bytes, position: int, charset: Charset) -> bool:
    end = len(piece) - len(charset.newline)
    return end >= 0 and piece.endswith(charset.newline) and (position + end) % charset.width == 0
