"""docs/agents.md is true: its program runs as it stands, and goes on where it was after kills of both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.docs import page

DOCUMENT = page.text_of("docs/agents.md")


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home."""
    with page.fresh_home("agents") as path:
        yield path


def test_the_agent_runs_as_written_and_survives_kills(home: Path) -> None:
    """Run twice it gives the same ends and runs nothing twice; killed together with the daemon, it goes on."""
    (home / "agent.py").write_text(page.blocks(DOCUMENT, "python")[0])
    script = ["set -m", "trap 'kill -TERM $(jobs -p); wait' EXIT"]
    serve = "chronicled serve &\n"
    script += [block.replace(serve, serve + page.READY) for block in page.blocks(DOCUMENT, "sh")]
    done = page.run("\n".join(script), home)
    said = done.stdout.splitlines()
    assert said.count("+    return a + b") == 3, f"{done.stdout}\n{done.stderr}"
    assert said.count("tests: ok effects: complete") == 3, f"{done.stdout}\n{done.stderr}"
    assert said.count("ended: cancelled") == 3
    assert "tests:" not in (home / "killed.txt").read_text(), "both were killed while the command ran"
    events = [line for line in said if line.startswith("events: ")]
    assert events[0] == events[1], "the second run of the same task changed nothing"
    assert said[-1].startswith("ID"), "nothing is left open"
