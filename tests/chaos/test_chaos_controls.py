"""With one guarantee taken out the harness must find what it is there to find; otherwise its silence means nothing."""

from __future__ import annotations

import random
import sys

import pytest
from tests.chaos.harness import run
from tests.engine.fixture import Engine

SEED = 11
TRIES = 3
CONTROLS = {
    # The server forgets what it runs, so a worker that comes back after a crash sends it again.
    "dedupe_off": ("run twice", ["daemon"] * 6),
    # With daemon and sandbox dead at once, nothing tells what was sent from what was not.
    "journal_off": ("dishonest outcome|run twice", ["both"] * 6),
    # While the engine is away its containers run on; who calls them dead must be caught lying.
    "silence_is_death": ("has ended with the engine|lives|effect after the end", ["engine, live-restore"] * 2),
    # What a crash left in the middle of a start would stay for ever.
    "sweep_off": ("container left behind: orphan-late", ["kill"]),
    # A copied data directory's sandboxes, or a colleague's, would be gone.
    "position_ignored": ("of a copied data directory is gone", ["kill"]),
    "labels_ignored": ("with half of the labels is gone", ["kill"]),
    "instance_ignored": ("another instance's is gone", ["kill"]),
    # A sandbox that lives would be taken for an orphan.
    "memory_ignored": ("removed by the product itself while it lived", ["kill"]),
    # Whoever waits for an action's end would wait much longer than a person does.
    "deaf": ("has not ended 5.0 s after it died", ["kill"]),
    "folders_left": ("left behind: [", ["kill"]),
}

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.timeout(400)
async def test_the_harness_notices_a_missing_guarantee(engine: Engine, control: str) -> None:
    """A daemon without the guarantee breaks a promise within a few cycles, and the harness says which."""
    sign, cycles = CONTROLS[control]
    launch = (sys.executable, "-m", "tests.chaos.broken", control, "serve")
    found: list[str] = []
    for attempt in range(TRIES):
        # Chance decides where a kill lands, so it gets more than one try; a sound product would pass them all.
        chosen = random.Random(SEED + attempt).sample(cycles, len(cycles))
        report = await run(engine, chosen, SEED + attempt, launch, kept=False, settle_seconds=8.0)
        found = [text for text in report.violations if any(word in text for word in sign.split("|"))]
        if found:
            break
        assert not report.violations, f"broken in another way than meant:\n{report}"
    assert found, f"{control} was not noticed"
