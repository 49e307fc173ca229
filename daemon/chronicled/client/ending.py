"""How an action ended, as a client sees it."""

from __future__ import annotations

from typing import Any

import msgspec

from chronicled.events.envelope import Event
from chronicled.events.outcome import Effects, Outcome

__all__ = ["Ending"]


class Ending(msgspec.Struct, frozen=True):
    """An action with its terminal observation."""

    action: Event
    observation: Event
    payload: dict[str, Any]
    """The observation's payload as plain JSON values."""

    @classmethod
    def of(cls, action: Event, observation: Event) -> Ending:
        """Read the observation's payload; nothing is there of one that nobody can read (`observation.opaque`)."""
        return cls(action, observation, observation.fields())

    @property
    def outcome(self) -> Outcome:
        """The outcome; one that this client does not know is `unknown`."""
        try:
            return Outcome(self.payload.get("outcome", ""))
        except ValueError:
            return Outcome.UNKNOWN

    @property
    def effects(self) -> Effects:
        """What it may have changed."""
        try:
            return Effects(self.payload.get("effects", ""))
        except ValueError:
            return Effects.POSSIBLE

    @property
    def ok(self) -> bool:
        """True when it ran and succeeded."""
        return self.outcome is Outcome.OK

    @property
    def exit_code(self) -> int | None:
        """The command's exit code, where it has one."""
        return self.payload.get("exit_code")

    @property
    def output(self) -> str:
        """What it printed, cut in the middle where that was much; `Session.output` gives every byte.

        Of a kind that prints nothing it is the content, cut to its head where that was much: `Session.payload` has all.
        """
        return str(self.payload.get("output", self.payload.get("content", "")))

    @property
    def message(self) -> str | None:
        """Why it ended so, for a person."""
        return self.payload.get("message")
