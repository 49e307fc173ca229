"""What a course remembers from record to record: which actions are open, and the newest ones by their id."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["KNOWN_MAX", "OPEN_MAX", "Memory", "Open"]

OPEN_MAX: Final = 512
"""Most actions that may be open at once; past them the oldest is ended as if the source were over."""
KNOWN_MAX: Final = 1024
"""How many of the newest actions and messages are remembered by their id in the source."""


class Open(msgspec.Struct, array_like=True):
    """A runnable action without an end so far."""

    id: str
    kind: str
    call: str
    """The model's id of the call: an error names that alone."""
    executable: bool = True
    """Whether the call had become an action."""


class Memory(msgspec.Struct):
    """Small, and all of it can be written down."""

    open: dict[str, Open] = {}
    """By the id of the action in the source, oldest first."""
    known: dict[str, tuple[str, str]] = {}
    """Id of our event, and our kind where it is runnable, by the source's id; oldest first."""
    last: str = ""
    """The source's id of the newest record: where a tree of events goes on in a line, its parent."""

    def note(self, name: str, id: str, kind: str) -> None:
        """Remember an event that later ones may name."""
        self.known.pop(name, None)
        self.known[name] = (id, kind)
        if len(self.known) > KNOWN_MAX:
            del self.known[next(iter(self.known))]

    def called(self, call: str) -> str | None:
        """Return the name of the newest open action of that call."""
        if not call:
            return None
        return next((name for name in reversed(self.open) if self.open[name].call == call), None)
