"""A flight: one action that was sent to a generation and has no terminal observation yet."""

from __future__ import annotations

from typing import Literal

import anyio

from chronicled.events.envelope import Event
from chronicled.runtimes.output.pump import Pump
from chronicled.runtimes.runtime import MemoryMark
from chronicled.runtimes.worker.timers import Timer

__all__ = ["Flight", "Stop"]

Stop = Literal["command", "cancel", "life"]
"""Why the worker wants the action to end: its command deadline, a cancel, the session's life deadline."""


class Flight:
    """One action under way.

    Args:
        event: The action.
        pump: Takes its output.
        memory_mark: A moment of its sandbox from before it began; None where nothing is known of that.
    """

    __slots__ = (
        "cancelled", "done", "ending", "event", "memory_mark", "pump", "pumping", "sent", "stop", "timers",
    )  # fmt: skip

    def __init__(self, event: Event, pump: Pump, memory_mark: MemoryMark | None = None) -> None:
        self.memory_mark = memory_mark
        self.event = event
        self.pump = pump
        self.pumping = False
        self.sent: set[str] = set()
        """Ids of the inputs and interrupts that were passed on."""
        self.cancelled = False
        """Whether a cancel was sent over the present link."""
        self.stop: Stop | None = None
        """What to say if the generation has to be ended because the server did not end the action in time."""
        self.ending = False
        """Its terminal observation is being made; nothing else may make one."""
        self.done = anyio.Event()
        """Its terminal observation is in the log."""
        self.timers: list[Timer] = []

    def rest(self) -> None:
        """Cancel its deadlines."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
