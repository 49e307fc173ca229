"""docs/imports.md is true: its blocks run as they stand, one after another, on what OpenHands leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.unit.imports.conversations import pairs, write_files

from chronicled.storage.imports.discovery import FORMATS

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "imports.md").read_text()
FIXTURES = ROOT / "tests" / "fixtures" / "openhands"
SECONDS_MAX = 90


def test_every_block_of_the_imports_page_runs_as_written(tmp_path: Path) -> None:
    """Imports of a file, a folder of sessions, the same again and a dry run work word by word on a fresh home."""
    shutil.copy(FIXTURES / "basic.json", tmp_path / "trajectory.json")
    shutil.copy(FIXTURES / "resolver_output.jsonl", tmp_path / "output.jsonl")
    write_files(tmp_path / "file_store" / "sessions" / "one", pairs(40))
    write_files(tmp_path / "file_store" / "users" / "ann" / "conversations" / "two", pairs(20))
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for said in (
        "first-steps: 4 records of openhands.v0 became 4 events, 0 opaque",
        "ok: 7 events verify",
        "one: 40 records of openhands.v0 became 40 events",
        "two: 20 records of openhands.v0 became 20 events",
        '"time_utc":"2025-01-02T02:04:00.000000Z"',
        "one: 0 records of openhands.v0 became 0 events, 0 opaque, 0 with something that found no place, 40 imported",
        '"session":"orchard-698-orchard-699-1"',
    ):
        assert said in done.stdout, f"{said!r} is missing in:\n{done.stdout}\n{done.stderr}"
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert len(lines) == 60
    assert {line["session"] for line in lines} == {"one", "two"}


def test_every_format_is_named() -> None:
    """The page names each format that can be imported."""
    for format in FORMATS:
        assert f"`{format.name}`" in DOCUMENT
