"""The promise with containers: whatever is killed, work is neither lost nor repeated, and no orphan stays."""

from __future__ import annotations

import os
import random
import statistics
import time

import pytest
from tests.chaos.containers import BLOWS
from tests.chaos.harness import run
from tests.chaos.report import KINDS, plans
from tests.conftest import Figures
from tests.engine.fixture import Engine

CYCLES = int(os.environ.get("CHRONICLED_CHAOS_CYCLES", "30"))
SEED = int(os.environ.get("CHRONICLED_CHAOS_SEED", str(time.time_ns() % 1_000_000)))
FULL = 100
"""From so many cycles on (CI), each kind must have come under load often enough to mean something."""
BUSY_MIN = 2
READY_SECONDS_MEDIAN = 4.0
READY_SECONDS_MAX = 10.0
"""Until the daemon serves again, beside a machine full of containers that start; alone it takes half a second."""

pytestmark = pytest.mark.crash


@pytest.mark.timeout(300 + 8 * CYCLES)
async def test_kills_of_daemon_containers_and_engine_lose_nothing_and_leave_nothing(
    engine: Engine, figures: Figures
) -> None:
    """Every ack, effect and outcome is accounted for; the engine holds what the log says, and what is foreign lives."""
    report = await run(engine, plans(CYCLES, random.Random(SEED)), SEED)
    figures(str(report))
    assert not report.violations, str(report)
    assert statistics.median(report.ready_seconds) < READY_SECONDS_MEDIAN, str(report)
    assert max(report.ready_seconds) < READY_SECONDS_MAX, str(report)
    rare = {kind: report.busy[kind] for kind in KINDS if report.busy[kind] < (BUSY_MIN if CYCLES >= FULL else 1)}
    assert not rare, f"not often enough under load: {rare}\n{report}"
    assert all(report.noticed.get(blow) for blow in BLOWS), str(report)
