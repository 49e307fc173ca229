"""An import of OpenHands V1 that is killed at any of its points is completed by running it again: once and whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.integration.cli.conftest import BIN
from tests.unit.agent_sdk.records import action, observation

EVENTS = 4400
"""Five chunks."""


def run(*arguments: str | Path, fault: str | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command that needs no daemon."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
    if fault is not None:
        environment["CHRONICLED_FAULT_POINT"] = fault
    return subprocess.run([BIN, *arguments], env=environment, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a conversation in which each action is open across the border of two chunks now and then."""
    found = tmp_path_factory.mktemp("sdk") / "conversation"
    (found / "events").mkdir(parents=True)
    values = [
        value
        for number in range(EVENTS // 2)
        for value in (action(number, command=f"echo {number}"), observation(number, said=f"{number}", exit_code=0))
    ]
    # Shifted by one, so that an action ends one chunk and its observation begins the next.
    values.insert(0, action(EVENTS, command="never ends"))
    for number, value in enumerate(values):
        (found / "events" / f"event-{number:05}-{value['id']}.json").write_text(json.dumps(value))
    return found


@pytest.mark.parametrize("fault", ["import_to_blob:2", "import_to_append:1", "import_to_append:4", "import_to_next:3"])
def test_a_killed_import_goes_on(folder: Path, tmp_path: Path, fault: str) -> None:
    """After `kill -9` and a second run, the log is what an import without a kill leaves, event by event."""
    killed = run("migrate", "import", folder, "--data", tmp_path / "killed", fault=fault)
    assert killed.returncode == -signal.SIGKILL
    again = run("migrate", "import", folder, "--data", tmp_path / "killed", "--json")
    assert again.returncode == 0, again.stderr
    outcome = json.loads(again.stdout)
    assert outcome["earlier"] + outcome["records"] == EVENTS + 1
    assert run("migrate", "import", folder, "--data", tmp_path / "whole").returncode == 0
    told: list[list[tuple[str, str, str | None]]] = []
    for data in (tmp_path / "killed", tmp_path / "whole"):
        assert run("audit", "verify", "--data", data).returncode == 0
        done = run("migrate", "export", "conversation", "--format", "cloudevents", "--data", data)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        told.append([(event["id"], json.dumps(event["data"]), event.get("cause")) for event in events])
    assert told[0] == told[1]
    assert len({id for id, _, _ in told[0]}) == len(told[0])
