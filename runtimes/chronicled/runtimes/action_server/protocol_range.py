"""Which version of the frames two peers speak, when one of them may be of another release.

A worker that is upgraded finds sandboxes that run, and their action servers are of the release before. So each side
speaks a range of versions, tells it in the handshake, and the highest common one is used. A release speaks its own
version and the two before it; a frame's fields are only ever added, with defaults, so that a `Hello` of any version can
be read far enough to refuse it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from chronicled.events.errors import ProtocolMismatch
from chronicled.runtimes.action_server import frames

__all__ = ["OVERLAP", "Spoken", "agree", "spoken_here"]

OVERLAP: Final = 2
"""Versions before its own that a release still speaks."""


class Spoken(NamedTuple):
    """The versions that one side speaks, both ends included."""

    lowest: int
    highest: int

    def __str__(self) -> str:
        return f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"


def spoken_here() -> Spoken:
    """Return what this release speaks."""
    return Spoken(frames.PROTOCOL_MIN, frames.PROTOCOL)


def agree(server: Spoken, worker: Spoken) -> int:
    """Return the version to speak: the highest common one.

    Raises:
        ProtocolMismatch: there is none; the detail says which side is older, and what to do.
    """
    version = min(server.highest, worker.highest)
    if version >= max(server.lowest, worker.lowest):
        return version
    ranges = f"The action server speaks protocol {server}, the worker {worker}"
    if server.highest < worker.lowest:
        advice = "the sandbox is of a release too old for this one: restart the session, or go on with the old release"
    elif server.lowest > worker.highest:
        advice = "the sandbox is of a newer release: go on with that, or restart the session"
    else:
        advice = "one of these ranges is none"
    raise ProtocolMismatch(f"{ranges}; {advice}.")
