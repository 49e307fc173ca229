"""What a course remembers from record to record: which actions are open, and which ids it has seen of late."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["KNOWN_MAX", "OPEN_MAX", "Confirmation", "Memory", "Open"]

Confirmation = Literal["", "awaiting", "rejected"]
OPEN_MAX: Final = 512
"""Most actions that may be open at once; past them the oldest is ended as if the source were over."""
KNOWN_MAX: Final = 256
"""How many of the newest actions are remembered by their id in the source."""


class Open(msgspec.Struct, array_like=True):
    """A runnable action without an end so far."""

    id: str
    kind: str
    confirmation: Confirmation = ""
    actor: str = "openhands"


class Memory(msgspec.Struct):
    """Small, and all of it can be written down."""

    open: dict[str, Open] = {}
    """By what the source calls the action, oldest first."""
    known: dict[str, tuple[str, str]] = {}
    """Of the newest actions: id of our event, and our kind where it is runnable, `OPAQUE` where nobody could read it.
    By the source's name, oldest first."""

    def note(self, name: str, id: str, kind: str) -> None:
        """Remember an action."""
        self.known.pop(name, None)
        self.known[name] = (id, kind)
        if len(self.known) > KNOWN_MAX:
            del self.known[next(iter(self.known))]
