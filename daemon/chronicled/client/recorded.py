"""What the daemon answers to a submission: the action, and its end if that was waited for and came."""

from __future__ import annotations

from typing import Final

import msgspec

from chronicled.events.envelope import Event

__all__ = ["WAIT_SECONDS", "Recorded", "decode"]

WAIT_SECONDS: Final = 60
"""How long one request waits for an end; longer waits are several requests."""


class Recorded(msgspec.Struct, frozen=True):
    """An action that is in the log."""

    action: Event
    observation: Event | None = None


_decoder = msgspec.json.Decoder(Recorded)


def decode(answer: bytes) -> Recorded:
    """Read the answer."""
    return _decoder.decode(answer)
