"""Escapes undone: a text with its percent, backslash and entity escapes decoded, and where each byte came from."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

__all__ = ["PARTIAL", "Decoded", "decodings", "windows"]

PERCENT: Final = rb"%[0-9A-Fa-f]{2}"
LETTERS: Final = (
    rb"(?:u[dD][89abAB][0-9A-Fa-f]{2}\\+u[dD][c-fC-F][0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[0-3][0-7]{2}"
    rb"|[abefnrtv])"
)
LOOSE: Final = rb"\\+" + LETTERS
"""However often it was escaped."""
STRICT: Final = rb"\\(?:\\|" + LETTERS + b")"
"""Escaped once, with backslashes of the text's own before letters."""
TWICE: Final = rb"\\\\(?:\\\\|" + LETTERS + b")"
"""Escaped twice, with such backslashes: JSON in JSON."""
ENTITY: Final = rb"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|amp|lt|gt|quot|apos);"
DOUBLED: Final = re.compile(rb"\\\\+[uxabefnrtv0-3]")

PARTIAL: Final = re.compile(
    rb"(?:%[0-9A-Fa-f]?|&(?:#?|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{0,6}|[a-z]{1,4})"
    rb"|\\+(?:u[0-9A-Fa-f]{0,3}|x[0-9A-Fa-f]?|[0-3][0-7]?|u[dD][89abAB][0-9A-Fa-f]{2}(?:\\+(?:u[0-9A-Fa-f]{0,3})?)?)?)\Z"
)
"""An escape that the end of the data has cut."""

_SINGLE: Final = tuple(re.compile(b"(" + escape + b")") for escape in (PERCENT, LOOSE, ENTITY))
_SIGNS: Final = (b"%", b"\\", b"&")
_STRICTLY: Final = re.compile(b"(" + STRICT + b")")
_TWICE: Final = re.compile(b"(" + TWICE + b")")
_ALL: Final = re.compile(b"(" + b"|".join((PERCENT, LOOSE, ENTITY)) + b")")
_ALL_STRICTLY: Final = re.compile(b"(" + b"|".join((PERCENT, STRICT, ENTITY)) + b")")

_ENTITIES: Final = {b"&amp;": b"&", b"&lt;": b"<", b"&gt;": b">", b"&quot;": b'"', b"&apos;": b"'"}
KNOWN_MAX: Final = 1 << 16
KNOWN_BYTES_MAX: Final = 16
MARKS_MAX: Final = 64


class Decoded:
    """A decoded text and the way back.

    Args:
        data: The text before.
        pattern: Matches its escapes, as its only group.
    """

    __slots__ = ("_decoded", "_ends", "_parts", "_starts", "text")

    def __init__(self, data: bytes, pattern: re.Pattern[bytes]) -> None:
        # Plain text and escapes by turns.
        self._parts = pattern.split(data)
        self._decoded = self._parts.copy()
        self._decoded[1::2] = map(_known.__getitem__, self._parts[1::2])
        self.text = b"".join(self._decoded)
        self._starts: list[int] = []
        self._ends: list[int] = []

    def start(self, offset: int) -> int:
        """Return where in the data the byte at `offset` of the text begins."""
        part, within = self._place(offset)
        begin = self._starts[part - 1] if part else 0
        return begin if part % 2 else begin + within

    def end(self, offset: int) -> int:
        """Return where in the data the byte before `offset` of the text ends."""
        part, within = self._place(offset - 1)
        begin = self._starts[part - 1] if part else 0
        return self._starts[part] if part % 2 else begin + within + 1

    def _place(self, offset: int) -> tuple[int, int]:
        """Return the part in which the byte at `offset` lies, and where in it."""
        if not self._ends:
            self._starts = list(accumulate(map(len, self._parts)))
            self._ends = list(accumulate(map(len, self._decoded)))
        part = bisect.bisect_right(self._ends, offset)
        return part, offset - (self._ends[part - 1] if part else 0)


def windows(data: bytes, reach: int) -> list[tuple[int, int]]:
    """Return the parts of the data that can read otherwise once decoded: those within `reach` of an escape.

    All of it where it is full of escapes: then it is not worth the search.
    """
    marks: list[int] = []
    for sign, pattern in zip(_SIGNS, _SINGLE, strict=True):
        if sign not in data:
            continue
        for match in pattern.finditer(data):
            marks.append(match.start())
            if len(marks) > MARKS_MAX:
                return [(0, len(data))]
    found: list[tuple[int, int]] = []
    for mark in sorted(marks):
        if found and mark - reach <= found[-1][1]:
            found[-1] = (found[-1][0], mark + reach)
        else:
            found.append((max(0, mark - reach), mark + reach))
    return found


def decodings(data: bytes) -> Iterator[re.Pattern[bytes]]:
    """Yield a pattern for each way in which the data has escapes that can be undone."""
    found = 0
    doubled = False
    for sign, pattern in zip(_SIGNS, _SINGLE, strict=True):
        if sign in data and pattern.search(data) is not None:
            found += 1
            yield pattern
            if sign == b"\\" and DOUBLED.search(data) is not None:
                doubled = True
                yield _STRICTLY
                yield _TWICE
    if found > 1:
        yield _ALL
        if doubled:
            yield _ALL_STRICTLY


class _Known(dict[bytes, bytes]):
    """What each escape stands for, as they come; bounded."""

    def __missing__(self, escape: bytes) -> bytes:
        decoded = _decode(escape)
        if len(escape) <= KNOWN_BYTES_MAX:
            if len(self) >= KNOWN_MAX:
                self.clear()
            self[escape] = decoded
        return decoded


_known: Final = _Known()


def _decode(escape: bytes) -> bytes:
    if escape.startswith(b"%"):
        return bytes((int(escape[1:], 16),))
    if escape.startswith(b"&"):
        if escape in _ENTITIES:
            return _ENTITIES[escape]
        number = escape[2:-1]
        return _character(int(number[1:], 16) if number[:1] in b"xX" else int(number))
    letters = escape.lstrip(b"\\")
    if not letters:
        return b"\\"
    if letters.startswith(b"u"):
        point = int(letters[1:5], 16)
        if len(letters) > 5:
            point = 0x10000 + ((point - 0xD800) << 10) + int(letters[-4:], 16) - 0xDC00
        return _character(point)
    if letters.startswith(b"x"):
        return bytes((int(letters[1:], 16),))
    # What is left are white space and controls, which no form of a value holds.
    return bytes((int(letters, 8),)) if letters.isdigit() else b"\n"


def _character(point: int) -> bytes:
    return chr(point).encode(errors="replace") if point < 0x110000 else b"?"
