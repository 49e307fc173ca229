"""Kill daemon, action servers, containers and the engine over and over while clients submit; then compare everything.

python -m tests.chaos.harness [CYCLES [SEED]]
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
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from tests.awake import awake
from tests.chaos.containers import BLOWS, Containers
from tests.chaos.inventory import Inventory
from tests.chaos.report import Report, plans
from tests.crash.course import SETTLE_SECONDS_MAX, Course
from tests.crash.ledger import Ledger, Seen
from tests.crash.load import insist
from tests.crash.served import PRODUCT, Daemon
from tests.engine.fixture import MUSL, Engine
from tests.engine.own import OwnEngine, own_engine

__all__ = ["Harness", "run"]

SESSIONS = 5
COUNTERS = "/counters"
SWEEP_SECONDS = 2.0
CYCLE_SECONDS_MAX = 12.0
SWEPT_SECONDS_MAX = 60.0
NOTICE_SECONDS_MAX = 5.0
RECOVER_SECONDS_MAX = 20.0
"""How long the log may take to tell the end of generations that died with the engine, once one answers again."""
LOSSES_MAX = 3
"""A session lives on in a new generation, and is replaced when it has lost that too."""
CONFIGURATION = """\
[docker]
host = "{host}"
volumes_allowed = ["{counters}"]
memory_bytes = 268435456
[runtime]
default = "docker"
sweep_seconds = {sweep}
"""


class Harness(Course):
    """One run: an engine, a daemon, its clients, and the cycles that kill.

    Args:
        directory: Where everything but the engine's own goes.
        engine: An engine of the run's own, with the image.
        seed: Of every choice.
        launch: Command that starts the daemon.
    """

    def __init__(self, directory: Path, engine: OwnEngine, seed: int, launch: tuple[str, ...] = PRODUCT) -> None:
        self.report = Report(seed, directory=str(directory))
        # Apart from the socket and the data: what is beside those no sandbox may see.
        shared, own = directory / "shared", directory / "own"
        for folder in (shared, own):
            folder.mkdir(mode=0o711)
        ledger = Ledger(shared, COUNTERS)
        ledger.counters.chmod(0o777)
        configuration = own / "configuration.toml"
        configuration.write_text(CONFIGURATION.format(host=engine.host, counters=ledger.counters, sweep=SWEEP_SECONDS))
        super().__init__(Daemon(own, (*launch, "--config", str(configuration))), ledger, self.report, seed)
        self.engine = engine
        self.containers = Containers(engine)
        self.inventory = Inventory(self.containers, self.ledger)
        self.swept_seconds = SWEPT_SECONDS_MAX
        self._removed: set[str] = set()
        """Generations whose container was removed here."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start daemon and clients; at the end settle and check, whatever the cycles found."""
        begin = time.monotonic()
        await self._start()
        try:
            volume = {"source": str(self.ledger.counters), "target": COUNTERS, "read_only": False}
            asked = {"runtime": "docker", "image": MUSL, "sandbox": {"volumes": [volume]}}
            async with self.driven(SESSIONS, self._notice, asked) as submitting:
                if await self._victim() is not None:
                    await self.inventory.plant()
                yield
                await self.settle(submitting)
                await self._compare()
                await self._close_all()
        finally:
            await self.stop()
            self.report.seconds = time.monotonic() - begin

    # -- cycles ----------------------------------------------------------------------------------------------------

    async def cycle(self, kind: str) -> None:
        """Carry out one kill of the kind, and have what died come back."""
        self.report.cycles += 1
        for name in self.used_up(LOSSES_MAX):
            await self.fleet.replace(name)
        await asyncio.sleep(self.chance.uniform(0.05, 0.4))
        if kind in BLOWS:
            await self._blow(kind)
        elif kind.startswith("engine"):
            await self._kill_engine(kind)
        else:
            await self._kill_daemon_and_more(kind)

    async def _blow(self, kind: str) -> None:
        if (victim := await self._victim()) is None:
            return
        generation, _ = victim
        in_flight, begin = self.ledger.in_flight, awake()
        if not await self._strike(victim, kind):
            return
        self._count(kind, in_flight)
        if await self._gone({generation}, NOTICE_SECONDS_MAX):
            self.report.noticed.setdefault(kind, []).append(awake() - begin)
        else:
            self.report.violations.append(f"{kind}: {generation} has not ended {NOTICE_SECONDS_MAX} s after it died")

    async def _strike(self, victim: tuple[str, str], blow: str) -> bool:
        if blow == "remove":
            self._removed.add(victim[0])
        return await self.containers.strike(victim[1], blow)

    async def _kill_daemon_and_more(self, kind: str) -> None:
        if kind == "birth":
            # What replaces it is asked for a sandbox at once, by clients and by this.
            self.replace(self.chance.choice(self.fleet.names))
            await asyncio.sleep(self.chance.uniform(0.0, 0.5))
        victim = await self._victim() if kind == "both" else None
        in_flight = self.ledger.in_flight
        self.daemon.kill()
        self._count(kind, in_flight)
        if victim is not None:
            await self._strike(victim, self.chance.choice(BLOWS))
        if kind == "all":
            await self._kill_and_start_engine(live_restore=self.chance.random() < 0.5)
        if kind == "starting":
            self.daemon.spawn()
            await asyncio.sleep(self.chance.uniform(0.1, 0.7))
            self.daemon.kill()
        await self._start()
        if victim is not None and not await self._gone({victim[0]}, RECOVER_SECONDS_MAX):
            self.report.violations.append(f"both: {victim[0]} has not ended")

    async def _kill_engine(self, kind: str) -> None:
        alive, in_flight = self.ledger.alive, self.ledger.in_flight
        lives = kind != "engine"
        await self._kill_and_start_engine(live_restore=lives)
        self._count(kind, in_flight)
        if lives:
            # They must not have noticed: give a wrong end the time to show.
            await asyncio.sleep(0.5)
            for generation in alive & self.ledger.ended_generations:
                session = self.ledger.generations[generation].session
                if session in self.fleet.names:
                    self.report.violations.append(f"{kind}: {generation} of {session} has ended with the engine")
        elif not await self._gone(alive, RECOVER_SECONDS_MAX):
            self.report.violations.append(f"{kind}: {alive - self.ledger.ended_generations} have not ended")

    async def _kill_and_start_engine(self, *, live_restore: bool) -> None:
        self.engine.configure({"live-restore": live_restore})
        await asyncio.to_thread(self.engine.stop, signal.SIGKILL)
        await asyncio.sleep(self.chance.uniform(0.0, 0.5))
        begin = time.monotonic()
        await asyncio.to_thread(self.engine.start)
        self.report.engine_seconds.append(time.monotonic() - begin)

    def _count(self, kind: str, in_flight: int) -> None:
        self.report.kills[kind] += 1
        self.report.busy[kind] += in_flight > 0

    async def _victim(self) -> tuple[str, str] | None:
        """Return a generation that lives, with its container; None where there is none for a while."""
        end = time.monotonic() + CYCLE_SECONDS_MAX
        while time.monotonic() < end:
            if alive := sorted(self.ledger.alive):
                generation = self.chance.choice(alive)
                return generation, self.ledger.generations[generation].payload["handle"]["container"]
            await asyncio.sleep(0.01)
        self.report.violations.append(f"no sandbox within {CYCLE_SECONDS_MAX} s under load")
        return None

    async def _gone(self, generations: set[str], seconds: float) -> bool:
        """Wait until the log says that they have ended."""
        end = awake() + seconds
        while generations - self.ledger.ended_generations:
            if awake() > end:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _start(self) -> None:
        seconds = await self.daemon.start()
        if seconds is not None:
            self.report.ready_seconds.append(seconds)

    def _notice(self, event: Seen) -> None:
        if event.kind == "generation_ended":
            self.report.endings[event.payload["reason"]] += 1
            if event.payload["reason"] == "removed" and event.payload["generation"] not in self._removed:
                self.report.violations.append(f"removed by the product itself while it lived: {event}")
        self.check_end(event)

    # -- containers ------------------------------------------------------------------------------------------------

    async def _compare(self) -> None:
        """Wait until the engine's containers are those of the log; the foreign ones still run a sweep later."""
        await self.inventory.set_out()
        self.report.orphans = self.inventory.orphans
        begin = time.monotonic()
        wrong = await self.inventory.wrong(self.swept_seconds)
        self.report.swept_seconds = time.monotonic() - begin
        await asyncio.sleep(1.5 * SWEEP_SECONDS)
        self.report.violations += wrong or await self.inventory.wrong(0.0)
        self.report.violations += await self.inventory.touched()

    async def _close_all(self) -> None:
        """Close every session: then nothing of ours is left, and the foreign ones still run."""
        for name in list(self.fleet.names):
            await insist(self.daemon, self.api, "DELETE", f"/v1/sessions/{name}")
        await self._gone(self.ledger.alive, SETTLE_SECONDS_MAX)
        self.report.violations += await self.inventory.wrong(self.swept_seconds)
        self.report.violations += await self.inventory.touched()
        places = [self.daemon.data / "sandboxes", self.daemon.data / "spool", self.daemon.data / "run" / "sandboxes"]
        end = time.monotonic() + self.swept_seconds
        while left := [str(path) for place in places for path in place.iterdir()]:
            if time.monotonic() > end:
                self.report.violations.append(f"left behind: {left}")
                break
            await asyncio.sleep(0.1)


async def run(
    source: Engine,
    chosen: Sequence[str],
    seed: int,
    launch: tuple[str, ...] = PRODUCT,
    *,
    kept: bool = True,
    settle_seconds: float = SETTLE_SECONDS_MAX,
) -> Report:
    """Carry out the kills in order; return what happened.

    Args:
        source: An engine that has the image; it is not touched.
        chosen: Kinds of kill.
        seed: Of every choice that the harness makes; the machine's timing is chance all the same.
        launch: Command that starts the daemon.
        kept: Whether the directory of a run with violations stays, for a look.
        settle_seconds: How long actions, and containers, may take to become what they must after the last kill.
    """
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    # The counters below are a sandbox's to see.
    os.chmod(directory, 0o711)
    with own_engine(source, [MUSL]) as engine:
        harness = Harness(directory, engine, seed, launch)
        harness.settle_seconds = harness.swept_seconds = settle_seconds
        limit = SETTLE_SECONDS_MAX * 4 + CYCLE_SECONDS_MAX * len(chosen)
        async with asyncio.timeout(limit), harness.running():
            for kind in chosen:
                await harness.cycle(kind)
    if not (kept and harness.report.violations):
        shutil.rmtree(directory, ignore_errors=True)
    return harness.report


def main() -> int:
    """Run from the command line and print the report."""
    from tests.engine.fixture import HOST

    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    chosen = sys.argv[3:] or plans(cycles, random.Random(seed))
    report = asyncio.run(run(Engine("", HOST), chosen, seed))
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
