"""What the harness did and saw, kept outside the product: the other side of every comparison."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["SHAPES", "Ledger", "Seen", "Shape", "Submission"]


@dataclass(frozen=True)
class Shape:
    """A command with one effect that can be counted, and what it prints when it runs to its end."""

    name: str
    command: str
    weight: int
    output: bytes = b""

    @property
    def digest(self) -> str:
        """SHA-256 of the whole output."""
        return hashlib.sha256(self.output).hexdigest()


LINES = b"".join(b"line %d\n" % number for number in range(1, 7))
SHAPES = (
    Shape("quick", "{count}", 6),
    Shape("talks", "{count}; for i in 1 2 3 4 5 6; do echo line $i; sleep 0.03; done", 5, LINES),
    # Longer than a daemon needs to come back, also on a busy machine, so that a worker finds it running.
    Shape("outlives a start", "{count}; for i in 1 2 3 4 5 6; do sleep 0.5; echo line $i; done", 3, LINES),
    Shape("late", "echo begin; sleep 0.1; {count}; echo end", 3, b"begin\nend\n"),
    Shape("loud", "{count}; head -c 200000 /dev/zero | tr '\\0' x", 2, b"x" * 200_000),
    Shape("fails", "{count}; (exit 3)", 1),
    Shape("leaves a process", "{count}; (setsid sleep 300 >/dev/null 2>&1 &)", 1),
    Shape("leaves the shell", "{count}; exit 4", 1),
)


class Seen(msgspec.Struct, frozen=True):
    """The members of an event that the harness looks at."""

    position: int
    session: str
    sequence: int
    id: str
    kind: str
    category: str
    lane: str
    payload: dict[str, Any]
    cause: str | None = None

    @property
    def terminal(self) -> bool:
        """Whether it ends its action: the harness submits nothing but `run`."""
        return self.category == "observation" and self.kind == "run"


decode_seen = msgspec.json.Decoder(Seen).decode


@dataclass
class Submission:
    """One action that a client wanted, and all that was heard of it."""

    id: str
    session: str
    lane: str
    shape: Shape
    on_state_loss: str
    acked: bytes | None = None
    """The event as the first 2xx answer had it."""
    refused: str | None = None
    """The problem of a final refusal."""
    ended: Seen | None = None
    lines_when_ended: int | None = None
    """Lines in its counter file at the moment when its terminal observation was seen."""
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Ledger:
    """All submissions, all events seen live, all violations found on the way.

    Args:
        directory: Counter files go into a folder of it.
        seen_as: Path of that folder for the commands; its own by default.
    """

    def __init__(self, directory: Path, seen_as: str | None = None) -> None:
        self.counters = directory / "counters"
        self.counters.mkdir()
        self._seen_as = seen_as or str(self.counters)
        self.submissions: dict[str, Submission] = {}
        self.live: dict[int, bytes] = {}
        """Events as the follower saw them, by position."""
        self.generations: dict[str, Seen] = {}
        """`generation_started` by generation."""
        self.ended_generations: set[str] = set()
        self.losses: dict[str, int] = {}
        """How often a session has lost its generation."""
        self.violations: list[str] = []
        self.changed = asyncio.Event()
        """Set whenever an event was seen; whoever waits clears it."""

    @property
    def in_flight(self) -> int:
        """Actions that may be anywhere between their client and their end."""
        return sum(1 for known in self.submissions.values() if not known.done.is_set())

    @property
    def alive(self) -> set[str]:
        """Generations that have begun and not ended, as the log tells."""
        return self.generations.keys() - self.ended_generations

    def violation(self, text: str) -> None:
        """Note a broken promise."""
        self.violations.append(text)

    def command(self, submission: Submission) -> str:
        """Return the command line of a submission."""
        return submission.shape.command.format(count=f"echo {submission.id} >> {self._seen_as}/{submission.id}")

    def lines(self, action: str) -> int:
        """Count how often the action took effect."""
        path = self.counters / action
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def acked(self, submission: Submission, event: bytes) -> None:
        """Note a 2xx answer; every later one must be the same event."""
        if submission.acked is None:
            submission.acked = event
        elif submission.acked != event:
            self.violation(f"acked twice, differently: {submission.acked!r} and {event!r}")

    def refused(self, submission: Submission, problem: str) -> None:
        """Note a final refusal: the action must never show up."""
        submission.refused = problem
        submission.done.set()

    def see(self, raw: bytes) -> Seen:
        """Take in one event of the live stream."""
        event = decode_seen(raw)
        self.live[event.position] = raw
        if event.terminal and event.cause in self.submissions:
            submission = self.submissions[event.cause]
            if submission.ended is not None:
                self.violation(f"second terminal observation, seen live: {raw!r}")
            submission.ended = event
            submission.lines_when_ended = self.lines(submission.id)
            submission.done.set()
        elif event.kind == "generation_started":
            self.generations[event.payload["generation"]] = event
        elif event.kind == "generation_ended":
            self.ended_generations.add(event.payload["generation"])
            self.losses[event.session] = self.losses.get(event.session, 0) + 1
        self.changed.set()
        return event
