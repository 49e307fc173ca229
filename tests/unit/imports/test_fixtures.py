"""What is shaped as OpenHands itself wrote: each of its public recordings, in words of ours, opens, all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.imports.conversations import CODEC, bring, events_of, originals, payload

from chronicled.events.opaque import Opaque
from chronicled.storage.imports.chunk import Entry
from chronicled.storage.imports.destination import Destination, open_destination

FIXTURES = Path(__file__).parents[2] / "fixtures" / "openhands"
TRAJECTORIES = {"basic": 4, "basic_gui_mode": 18, "basic_interactions": 6, "wrong_initial_state": 8}
OUTPUTS = {"multi_swe_bench_output": (3, 222), "resolver_output": (2, 52), "feedback": (2, 21)}


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Destination]:
    """A data directory that nobody else uses."""
    async with open_destination(tmp_path) as destination:
        yield destination


@pytest.mark.parametrize(("name", "count"), TRAJECTORIES.items())
async def test_a_trajectory_opens(to: Destination, name: str, count: int) -> None:
    """Every event of it is read, none is opaque, and its bytes are kept."""
    path = FIXTURES / f"{name}.json"
    [outcome] = await bring(to, path)
    assert (outcome.records, outcome.opaque) == (count, 0)
    kept = [json.loads(data) for _, data in await originals(to, name)]
    assert kept == json.loads(path.read_text())


@pytest.mark.parametrize(("name", "sessions", "count"), [(name, *counts) for name, counts in OUTPUTS.items()])
async def test_the_results_of_an_evaluation_open(to: Destination, name: str, sessions: int, count: int) -> None:
    """Each line is a session; every event of its history is read, flat ones too, and none is opaque."""
    report: list[Entry] = []
    outcomes = await bring(to, FIXTURES / f"{name}.jsonl", report=report)
    assert len(outcomes) == sessions
    # What stands beside a history is a record too.
    assert sum(outcome.records for outcome in outcomes) == count + sessions
    assert not sum(outcome.opaque for outcome in outcomes)
    for outcome in outcomes:
        for event in await events_of(to.store, outcome.session):
            assert not isinstance(CODEC.decode(event), Opaque)
    assert not await to.store.verify()


async def test_every_action_of_the_fixtures_ends_once(to: Destination) -> None:
    """Each runnable action has exactly one terminal observation of its own kind, with the outcome that was recorded."""
    for path in sorted(FIXTURES.glob("*.json*")):
        for outcome in await bring(to, path):
            ends: Counter[str] = Counter()
            runnable: dict[str, str] = {}
            for event in await events_of(to.store, outcome.session):
                spec = CODEC.registry.find_current(event.category, event.kind)
                assert spec is not None
                if spec.runnable:
                    runnable[event.id] = event.kind
                elif spec.terminal:
                    assert event.cause is not None
                    assert runnable[event.cause] == event.kind
                    assert payload(event)["outcome"] in {"ok", "failed", "timeout", "unknown"}
                    ends[event.cause] += 1
            assert ends == dict.fromkeys(runnable, 1)
