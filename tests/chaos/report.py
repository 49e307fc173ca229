"""What a chaos run is to do, and what came of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.containers import BLOWS

__all__ = ["KINDS", "Report", "plans"]

KINDS = {
    "daemon": 3,
    "starting": 1,
    "birth": 2,
    **dict.fromkeys(BLOWS, 2),
    "both": 3,
    "engine, live-restore": 1,
    "engine": 1,
    "all": 1,
}
"""Kinds of kill with their shares.

`daemon` (which holds the worker), `starting` (the daemon before it is ready), `birth` (the daemon while sandboxes are
being made), the blows of `containers` to one sandbox, `both` (a blow while the daemon is dead too), `engine` (SIGKILL,
and another one after it that takes up its containers or, without live-restore, does not), `all` (daemon and engine).
"""


@dataclass
class Report:
    """What happened; no violations means that every promise was kept."""

    seed: int
    cycles: int = 0
    kills: Counter[str] = field(default_factory=Counter[str])
    """Kills by kind."""
    busy: Counter[str] = field(default_factory=Counter[str])
    """Those that came while actions were in flight."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    endings: Counter[str] = field(default_factory=Counter[str])
    """Generations by the reason of their end."""
    ready_seconds: list[float] = field(default_factory=list[float])
    engine_seconds: list[float] = field(default_factory=list[float])
    noticed: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds from a blow until the log said that its generation had ended, by kind."""
    swept_seconds: float = 0.0
    """From the last kill's recovery until the engine held the expected containers and no other of ours."""
    orphans: int = 0
    """Containers that were planted as a crash in the middle of a start leaves them, and had to go."""
    violations: list[str] = field(default_factory=list[str])
    submitted: int = 0
    acked: int = 0
    events: int = 0
    seconds: float = 0.0
    directory: str = ""

    def __str__(self) -> str:
        ready, engine = sorted(self.ready_seconds) or [0.0], sorted(self.engine_seconds) or [0.0]
        lines = [
            f"{self.cycles} cycles in {self.seconds:.0f} s, seed {self.seed}",
            f"  {self.submitted} actions submitted, {self.acked} acked, {self.events} events followed and read back",
            f"  daemon ready again: median {ready[len(ready) // 2]:.2f} s, worst {ready[-1]:.2f} s",
            f"  engine up again: median {engine[len(engine) // 2]:.2f} s, worst {engine[-1]:.2f} s",
            f"  containers as expected after {self.swept_seconds:.1f} s, {self.orphans} orphans planted",
            *(
                f"  {kind:<22}{self.kills[kind]:>4} kills, {self.busy[kind]:>4} under load{self._noticed(kind)}"
                for kind in KINDS
            ),
            f"  generations ended: {dict(self.endings)}",
            f"  outcomes: {dict(self.outcomes)}",
            f"  violations: {len(self.violations)}",
            *(f"    {text[:1500]}" for text in self.violations[:20]),
        ]
        if self.violations:
            lines.append(f"  kept for a look: {self.directory}")
        return "\n".join(lines)

    def _noticed(self, kind: str) -> str:
        seconds = self.noticed.get(kind)
        return "" if not seconds else f", in the log within {max(seconds):.2f} s"


def plans(cycles: int, chance: random.Random) -> list[str]:
    """Return a shuffled list of kinds of kill, by their shares, each at least once where there is room."""
    whole = sum(KINDS.values())
    chosen = [kind for kind, share in KINDS.items() for _ in range(max(1, cycles * share // whole))]
    chosen += chance.choices(list(KINDS), list(KINDS.values()), k=max(0, cycles - len(chosen)))
    chance.shuffle(chosen)
    return chosen[:cycles]
