"""Kill the daemon and its action servers over and over while clients submit; then compare everything.

python -m tests.crash.harness [CYCLES [SEED]]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.course import SETTLE_SECONDS_MAX, Course
from tests.crash.ledger import Ledger, Seen
from tests.crash.served import PRODUCT, Daemon
from tests.crash.victims import Servers, processes_of

from chronicled.events.faultpoint import ACTION_POINTS

__all__ = ["Harness", "Plan", "Report", "plans", "run"]

SESSIONS = 6
VICTIMS = ("daemon", "server", "reaper", "both", "starting", "none")
WEIGHTS = (4, 3, 1, 3, 2, 1)
ARRIVALS_MAX = {"before_append": 25, "commit_to_ack": 25}
"""Points that every commit passes are passed far more often than those of one action."""
SERVER_POINTS = {"dispatch_to_start", "mid_output", "result_to_spool"}
"""Points that an action server passes; `mid_output` is one of the daemon's too, all others are the daemon's alone."""
SERVER_ARRIVALS_MAX = 4
HIT_SECONDS_MAX = 4.0
CYCLE_SECONDS_MAX = 6.0
LOSSES_MAX = 2
"""A session lives on in a new generation, and is replaced when it has lost that too."""
EXTRA_SHARE = 4
"""Up to a quarter more cycles, for points that were not reached at the first try."""


@dataclass(frozen=True)
class Plan:
    """What one cycle kills.

    `daemon` (which holds the worker), `server` (an action server), `reaper` (the process above it), `both` (daemon and
    server), `starting` (the daemon before it is ready), `none` (the daemon is stopped in order), or `point` (whoever
    reaches it first).
    """

    victim: str
    point: str | None = None


@dataclass
class Report:
    """What happened; no violations means that every promise was kept."""

    seed: int
    cycles: int = 0
    hits: Counter[str] = field(default_factory=Counter[str])
    """Kills that ended a process while actions were in flight, by point or victim."""
    deaths: Counter[str] = field(default_factory=Counter[str])
    """The same by who died."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    ready_seconds: list[float] = field(default_factory=list[float])
    violations: list[str] = field(default_factory=list[str])
    submitted: int = 0
    acked: int = 0
    events: int = 0
    seconds: float = 0.0
    directory: str = ""

    def __str__(self) -> str:
        ready = sorted(self.ready_seconds) or [0.0]
        lines = [
            f"{self.cycles} cycles in {self.seconds:.0f} s, seed {self.seed}",
            f"  {self.submitted} actions submitted, {self.acked} acked, {self.events} events followed and read back",
            f"  ready again: median {ready[len(ready) // 2]:.2f} s, worst {ready[-1]:.2f} s, {len(ready)} starts",
            f"  died: {dict(self.deaths)}",
            *(f"  killed at {point:<18}{self.hits[point]:>4}" for point in sorted(ACTION_POINTS)),
            *(f"  killed at random: {name:<10}{self.hits[name]:>5}" for name in sorted(set(self.hits) - ACTION_POINTS)),
            f"  outcomes: {dict(self.outcomes)}",
            f"  violations: {len(self.violations)}",
            *(f"    {text[:1500]}" for text in self.violations[:20]),
        ]
        if self.violations:
            lines.append(f"  kept for a look: {self.directory}")
        return "\n".join(lines)


def plans(cycles: int, chance: random.Random) -> list[Plan]:
    """Return a shuffled list: three fifths of it at named points, evenly, the others at random moments."""
    each = max(1, cycles * 3 // 5 // len(ACTION_POINTS))
    chosen = [Plan("point", point) for point in sorted(ACTION_POINTS) for _ in range(each)]
    victims = chance.choices(VICTIMS, WEIGHTS, k=max(0, cycles - len(chosen)))
    chosen += [Plan(victim) for victim in victims]
    chance.shuffle(chosen)
    return chosen


class Harness(Course):
    """One run: a daemon, its clients, and the cycles that kill."""

    def __init__(self, directory: Path, seed: int, launch: tuple[str, ...] = PRODUCT) -> None:
        self.report = Report(seed, directory=str(directory))
        super().__init__(Daemon(directory, launch), Ledger(directory), self.report, seed)
        self.servers = Servers()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start daemon and clients; at the end settle and check, whatever the cycles found."""
        begin = time.monotonic()
        await self._start(None)
        try:
            async with self.driven(SESSIONS, self._notice) as submitting:
                yield
                await self._settle(submitting)
        finally:
            await self._clean()
            self.report.seconds = time.monotonic() - begin

    async def cycle(self, plan: Plan) -> bool:
        """Carry out one plan; False when its point was not reached in time."""
        self.report.cycles += 1
        if plan.point is not None:
            return await self._at_point(plan.point)
        if self.daemon.armed is not None or not self.daemon.alive:
            await self._restart(None)
        for name in self.used_up(LOSSES_MAX):
            await self.fleet.replace(name)
        await asyncio.sleep(self.chance.uniform(0.05, 0.5))
        if plan.victim in {"server", "reaper", "both"}:
            self._kill_server(plan.victim)
        if plan.victim == "none":
            await self.daemon.stop()
            if self.daemon.status != 0:
                self.report.violations.append(f"no orderly end: {self.daemon.status}\n{self.daemon.tail()}")
            await self._start(None)
        if plan.victim in {"daemon", "both", "starting"}:
            self._kill_daemon(plan.victim)
            if plan.victim == "starting":
                await self._start_in_vain()
            await self._start(None)
        return True

    async def _at_point(self, point: str) -> bool:
        await self._restart(f"{point}:{self.chance.randint(1, ARRIVALS_MAX.get(point, SERVER_ARRIVALS_MAX))}")
        if self.daemon.armed is None:
            return True
        # Only servers that this daemon starts carry its point, so it needs sessions without one.
        # They are made while the wait goes on: the daemon may well die on its way to the first of them.
        for name in self.used_up(LOSSES_MAX) or [self.chance.choice(self.fleet.names)]:
            self.replace(name)
        return await self._await_point(point)

    async def _await_point(self, point: str) -> bool:
        """Wait until the daemon or an action server has killed itself at the point."""
        self.servers.fallen.clear()
        end = time.monotonic() + HIT_SECONDS_MAX
        while time.monotonic() < end:
            in_flight = self.ledger.in_flight
            if not self.daemon.alive:
                self.daemon.up.clear()
                self._hit(point, "daemon", in_flight)
                return True
            if self._fell_at(point):
                self._hit(point, "server", in_flight)
                await asyncio.sleep(self.chance.uniform(0, 0.3))
                return True
            await asyncio.sleep(0.005)
        return False

    def _fell_at(self, point: str) -> bool:
        """Tell whether an action server has ended at the point: not with its session, as those that are replaced do."""
        while self.servers.fallen:
            generation = self.ledger.generations[self.servers.fallen.pop()]
            if generation.session not in self.fleet.names:
                continue
            if point in SERVER_POINTS:
                return True
            self.report.violations.append(f"armed for {point}, and a server ended by itself: {generation}")
        return False

    def _hit(self, name: str, who: str, in_flight: int) -> None:
        if in_flight:
            self.report.hits[name] += 1
        self.report.deaths[who] += 1

    def _kill_daemon(self, name: str) -> None:
        if self.daemon.alive:
            in_flight = self.ledger.in_flight
            self.daemon.kill()
            self._hit(name, "daemon", in_flight)

    def _kill_server(self, name: str) -> None:
        alive = self.servers.alive
        if alive and self.servers.kill(self.chance.choice(alive), reaper=name == "reaper"):
            self._hit(name, "server", self.ledger.in_flight)

    async def _start_in_vain(self) -> None:
        """Start the daemon and kill it before, or just when, it is ready."""
        self.daemon.spawn()
        await asyncio.sleep(self.chance.uniform(0.1, 0.7))
        self._kill_daemon("starting")

    async def _restart(self, armed: str | None) -> None:
        if self.daemon.status not in {None, -signal.SIGKILL}:
            self.report.violations.append(f"daemon ended by itself: {self.daemon.status}\n{self.daemon.tail()}")
        self._kill_daemon("daemon")
        await self._start(armed)

    async def _start(self, armed: str | None) -> None:
        seconds = await self.daemon.start(armed)
        if seconds is None:
            # An armed daemon may well die at its point before it is ready; the next one is not armed.
            self._hit((armed or "").partition(":")[0], "daemon", self.ledger.in_flight)
            seconds = await self.daemon.start(None)
        self.servers.watched.clear()
        if seconds is not None:
            self.report.ready_seconds.append(seconds)

    def _notice(self, event: Seen) -> None:
        self.servers.notice(event)
        if event.kind == "generation_started" and self.daemon.armed is not None:
            self.servers.watched.add(event.payload["generation"])
        self.check_end(event)

    async def _settle(self, submitting: asyncio.Task[None]) -> None:
        """Start an unarmed daemon, let clients finish, and wait until the log is quiet."""
        if self.daemon.armed is not None or not self.daemon.alive:
            await self._restart(None)
        await self.settle(submitting)

    async def _clean(self) -> None:
        await self.stop()
        self.servers.close()
        for pid in processes_of({*self.ledger.generations, str(self.daemon.data)}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def run(
    chosen: Sequence[Plan],
    seed: int,
    launch: tuple[str, ...] = PRODUCT,
    *,
    kept: bool = True,
    settle_seconds: float = SETTLE_SECONDS_MAX,
) -> Report:
    """Carry out the plans, points that were missed again later; return what happened.

    Args:
        chosen: What to kill, in order.
        seed: Of every choice that the harness makes; the machine's timing is chance all the same.
        launch: Command that starts the daemon.
        settle_seconds: How long actions that are open after the last kill may take to end.
        kept: Whether the directory of a run with violations stays, for a look.
    """
    directory = Path(tempfile.mkdtemp(prefix="crash-"))
    harness = Harness(directory, seed, launch)
    harness.settle_seconds = settle_seconds
    waiting = list(chosen)
    spare = max(2, len(waiting) // EXTRA_SHARE)
    async with asyncio.timeout(SETTLE_SECONDS_MAX * 3 + CYCLE_SECONDS_MAX * len(waiting)), harness.running():
        while waiting:
            plan = waiting.pop(0)
            if not await harness.cycle(plan) and spare > 0:
                spare -= 1
                waiting.append(plan)
    if not (kept and harness.report.violations):
        shutil.rmtree(directory, ignore_errors=True)
    return harness.report


def main() -> int:
    """Run from the command line and print the report."""
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    report = asyncio.run(run(plans(cycles, random.Random(seed)), seed))
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
