"""The promise, under `kill -9`: accepted work is neither lost nor repeated, and its outcome is told honestly."""

from __future__ import annotations

import os
import random
import time

import pytest
from tests.conftest import Figures
from tests.crash.harness import plans, run

from chronicled.events.faultpoint import ACTION_POINTS

CYCLES = int(os.environ.get("CHRONICLED_CRASH_CYCLES", "40"))
SEED = int(os.environ.get("CHRONICLED_CRASH_SEED", str(time.time_ns() % 1_000_000)))
FULL = 200
"""From so many cycles on (CI), each named point must have been hit often enough to mean something."""
HITS_MIN = 10
READY_SECONDS_MAX = 2.0

pytestmark = pytest.mark.crash


@pytest.mark.timeout(60 + 6 * CYCLES)
async def test_kills_lose_nothing_and_repeat_nothing(figures: Figures) -> None:
    """Daemon and action servers die at named points and at random; every ack, effect and outcome is accounted for."""
    report = await run(plans(CYCLES, random.Random(SEED)), SEED)
    figures(str(report))
    assert not report.violations, str(report)
    assert max(report.ready_seconds) < READY_SECONDS_MAX, str(report)
    missing = {
        point: report.hits[point] for point in ACTION_POINTS if report.hits[point] < (HITS_MIN if CYCLES >= FULL else 1)
    }
    assert not missing, f"not hit often enough: {missing}\n{report}"
    assert report.deaths["daemon"] > 0, str(report)
    assert report.deaths["server"] > 0, str(report)
