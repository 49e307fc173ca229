"""A harness that cannot fail proves nothing: each guarantee taken out alone is noticed, by the sign that fits it."""

from __future__ import annotations

import random
import sys

import pytest
from tests.crash.harness import Plan, run

SEED = 7
TRIES = 3
CONTROLS = {
    # The server forgets what it runs, so a worker that comes back after a crash sends it again.
    "dedupe_off": ("run twice", [Plan("daemon"), Plan("point", "spool_to_append"), Plan("point", "mid_output")]),
    # Whoever was told 202 while the batch was on its way loses it with the daemon.
    "ack_before_commit": ("acked event", [Plan("point", "before_append"), Plan("daemon")]),
    # With daemon and server dead at once, nothing tells what was sent from what was not.
    "journal_off": ("dishonest outcome|run twice", [Plan("both"), Plan("both"), Plan("both")]),
    # What was accepted before its home was lost runs in another one.
    "state_loss_ignored": ("ran in a fresh generation", [Plan("server"), Plan("both"), Plan("reaper")]),
}

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.timeout(300)
async def test_the_harness_notices_a_missing_guarantee(control: str) -> None:
    """A daemon without the guarantee breaks a promise within a few cycles, and the harness says which."""
    sign, cycle = CONTROLS[control]
    launch = (sys.executable, "-m", "tests.crash.broken", control, "serve")
    found: list[str] = []
    for attempt in range(TRIES):
        # Chance decides where a kill lands, so it gets more than one try; a sound product would pass them all.
        chosen = cycle * 3
        random.Random(SEED + attempt).shuffle(chosen)
        report = await run(chosen, SEED + attempt, launch, kept=False, settle_seconds=8.0)
        found = [text for text in report.violations if any(word in text for word in sign.split("|"))]
        if found:
            break
        assert not report.violations, f"broken in another way than meant:\n{report}"
    assert found, f"{control} was not noticed"
