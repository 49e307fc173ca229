"""What an author gives the kit beside the unit: examples of its actions, for what cannot be known without them."""

from __future__ import annotations

from typing import Any

import msgspec

from chronicled.events.outcome import Outcome

__all__ = ["ActionExample", "UnitExamples"]


class ActionExample(msgspec.Struct, frozen=True, kw_only=True):
    """One action, and what becomes of it in a fresh sandbox."""

    kind: str
    payload: dict[str, Any]
    """In the current version; fields with defaults may be left out."""
    outcome: Outcome = Outcome.OK
    fields: dict[str, Any] = {}
    """Fields of the observation that must have these values; others may have any."""
    output: str = ""
    """What its output must contain."""


class UnitExamples(msgspec.Struct, frozen=True, kw_only=True):
    """Examples for the executors of one unit."""

    sequence: tuple[ActionExample, ...]
    """Actions that are run one after another in one lane of one sandbox: what is expected of the later ones shows that
    state is kept. All kinds that the unit executes must be there, and one example at least must print something."""
    slow: ActionExample
    """An action that takes 20 seconds and more when nobody ends it; it must be at an `await` most of that time."""
    failing: tuple[ActionExample, ...] = ()
    """Actions that end `failed`."""
