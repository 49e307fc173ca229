"""The course of a run that kills: what runs against processes and runs against containers have in common."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

from tests.awake import awake
from tests.crash.checks import after_settling, read_log, verified
from tests.crash.ledger import Ledger, Seen
from tests.crash.load import Clients, Fleet, Follower
from tests.crash.served import Daemon
from tests.crash.victims import processes_of
from tests.crash.wire import Api

__all__ = ["SETTLE_SECONDS_MAX", "Course", "Totals"]

SETTLE_SECONDS_MAX = 60.0
LOOKS = 3
LOOK_SECONDS = 0.5
FOLLOW_SECONDS_MAX = 10.0


class Totals(Protocol):
    """What every report says."""

    violations: list[str]
    outcomes: Counter[str]
    submitted: int
    acked: int
    events: int


class Course:
    """A daemon under clients, whose sessions are replaced on the way, and who are let finish at the end.

    Args:
        daemon: The daemon.
        ledger: What clients submitted, and what they were told.
        report: Takes what went wrong, and the sums.
        seed: Of every choice.
    """

    fleet: Fleet
    clients: Clients
    group: asyncio.TaskGroup
    api: Api

    def __init__(self, daemon: Daemon, ledger: Ledger, report: Totals, seed: int) -> None:
        self.chance = random.Random(seed)
        self.daemon = daemon
        self.ledger = ledger
        self.settle_seconds = SETTLE_SECONDS_MAX
        self._totals = report
        self._replacing: set[asyncio.Task[None]] = set()

    def used_up(self, losses_max: int) -> list[str]:
        """Return the sessions that have lost so many generations."""
        return [name for name in self.fleet.names if self.ledger.losses.get(name, 0) >= losses_max]

    def replace(self, name: str) -> None:
        """Have a session replaced by another while the run goes on."""
        self._replacing.add(task := self.group.create_task(self.fleet.replace(name)))
        task.add_done_callback(self._replacing.discard)

    def check_end(self, event: Seen) -> None:
        """Note it when something of a generation lives of which the log says that it is over."""
        if event.kind == "generation_ended" or event.payload.get("outcome") == "sandbox_lost":
            for pid, what in processes_of({event.payload["generation"]}).items():
                self._totals.violations.append(f"{event.kind} at {event.position}, and process {pid} lives: {what}")

    @contextlib.asynccontextmanager
    async def driven(
        self, sessions: int, notice: Callable[[Seen], None], asked: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[asyncio.Task[None]]:
        """Have clients submit and the log followed; when the block has let them finish, stop the daemon and check all.

        Args:
            sessions: How many there are at a time.
            notice: Takes each event as it comes.
            asked: What they are created with.
        """
        async with Api(self.daemon.socket) as self.api, Api(self.daemon.socket) as stream:
            self.fleet = Fleet(self.daemon, self.api, self.ledger, sessions, asked)
            self.clients = Clients(self.daemon, self.api, self.ledger, self.fleet, self.chance)
            follower = Follower(self.daemon, stream, self.ledger, notice)
            async with asyncio.TaskGroup() as group:
                self.group = group
                following = group.create_task(follower.run())
                await self.fleet.fill()
                yield group.create_task(self.clients.run())
                log = await self._followed_log()
                following.cancel()
                self._totals.violations += after_settling(self.ledger, log)
        await self.daemon.stop()
        self._totals.violations += await asyncio.to_thread(verified, self.daemon.data)

    async def _followed_log(self) -> dict[int, bytes]:
        """Read the log once its follower has seen all of it: what is on its way to him when he goes is no gap."""
        end = awake() + FOLLOW_SECONDS_MAX
        while True:
            log = await read_log(self.api)
            if log.keys() == self.ledger.live.keys() or awake() > end:
                return log
            await asyncio.sleep(LOOK_SECONDS / 10)

    async def settle(self, submitting: asyncio.Task[None]) -> None:
        """Let clients finish, and wait until the log is quiet."""
        if self._replacing:
            await asyncio.wait(self._replacing)
        self.clients.stopping = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(submitting, self.settle_seconds)
        quiet = 0
        while quiet < LOOKS:
            # Nothing more may come: events that are on their way arrive within these looks.
            self.ledger.changed.clear()
            try:
                await asyncio.wait_for(self.ledger.changed.wait(), LOOK_SECONDS)
                quiet = 0
            except TimeoutError:
                quiet += 1

    async def stop(self) -> None:
        """End the daemon and put the sums into the report."""
        await self.daemon.stop()
        ledger, report = self.ledger, self._totals
        report.submitted = len(ledger.submissions)
        report.acked = sum(1 for known in ledger.submissions.values() if known.acked is not None)
        report.events = len(ledger.live)
        report.violations += ledger.violations
        report.outcomes.update(
            str(known.ended.payload["outcome"]) for known in ledger.submissions.values() if known.ended is not None
        )
