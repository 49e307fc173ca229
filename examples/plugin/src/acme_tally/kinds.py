"""The kinds of this unit, every version that was ever released. What was released is never changed."""

from __future__ import annotations

from chronicled.events import TerminalPayload, action, observation
from chronicled.events.kinds.observations import OutputFields
from chronicled.events.kinds.runnable import Runnable

__all__ = ["KINDS", "Tally", "TallyObservation"]


class TallyV1(Runnable, frozen=True, kw_only=True):
    """Version 1: one word at a time."""

    word: str


class TallyObservationV1(TerminalPayload, frozen=True, kw_only=True):
    """Version 1: how often the word has come."""

    count: int = 0


class Tally(Runnable, frozen=True, kw_only=True):
    """Count these words, beside all that were counted in this sandbox before."""

    words: list[str]
    account: str = ""
    """On whose account: never published."""
    pause_seconds: float = 0.0
    """How long to think about each word."""


class TallyObservation(OutputFields, frozen=True, kw_only=True):
    """What has been counted, and (from `OutputFields`) what the executor printed."""

    counts: dict[str, int] = {}
    """How often each of the words has come in its lane."""
    total: int = 0
    """How many words have come in the whole sandbox."""


KINDS = (
    action("acme.tally", TallyV1, runnable=True),
    action("acme.tally", Tally, version=2, runnable=True),
    observation("acme.tally", TallyObservationV1, terminal=True),
    observation("acme.tally", TallyObservation, version=2, terminal=True),
)
