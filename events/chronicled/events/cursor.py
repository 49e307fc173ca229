"""Cursors: a place in the whole log, exclusive, bound to one incarnation of it."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from chronicled.events.errors import CursorGone, InvalidCursor

__all__ = ["Cursor"]

FORM: Final = re.compile(r"(0|[1-9][0-9]{0,18})(?:@([A-Za-z0-9-]{1,64}))?")


class Cursor(msgspec.Struct, frozen=True):
    """The position already seen (0 for the start) and, where known, the incarnation that it was seen in."""

    position: int
    incarnation: str | None = None

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read `POSITION` or `POSITION@INCARNATION`.

        Raises:
            InvalidCursor: the text has another form.
        """
        match = FORM.fullmatch(text)
        if match is None or int(match[1]) >= 1 << 63:
            raise InvalidCursor(f"A cursor is POSITION or POSITION@INCARNATION, not {text[:100]!r}.")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return str(self.position) if self.incarnation is None else f"{self.position}@{self.incarnation}"

    def resolve(self, incarnation: str, head: int) -> int:
        """Return the position, if it can be read in the log of that incarnation and head.

        Raises:
            CursorGone: it was taken in another incarnation, where the same number means another event.
            InvalidCursor: it lies beyond the head.
        """
        if self.incarnation is not None and self.incarnation != incarnation:
            raise CursorGone(
                f"The cursor is of incarnation {self.incarnation}, the log is {incarnation}: read again from 0.",
                incarnation=incarnation,
            )
        if self.position > head:
            raise InvalidCursor(f"The cursor {self.position} lies beyond the log's head {head}.", head=head)
        return self.position
