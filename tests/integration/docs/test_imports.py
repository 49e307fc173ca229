"""docs/imports.md is true: its blocks run as they stand, one after another, on what OpenHands leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.integration.docs import page
from tests.unit.imports.conversations import pairs, ran, run, write_files

from chronicled.storage.imports.discovery import FORMATS

DOCUMENT = page.text_of("docs/imports.md")
FIXTURES = page.ROOT / "tests" / "fixtures" / "openhands"


def test_every_block_of_the_imports_page_runs_as_written(tmp_path: Path) -> None:
    """Imports of a file, a folder of sessions, the same again and a dry run work word by word on a fresh home."""
    shutil.copy(FIXTURES / "basic.json", tmp_path / "trajectory.json")
    shutil.copy(FIXTURES / "resolver_output.jsonl", tmp_path / "output.jsonl")
    write_files(tmp_path / "file_store" / "sessions" / "one", pairs(40))
    write_files(tmp_path / "file_store" / "users" / "ann" / "conversations" / "two", pairs(20))
    leaky = [run(0, "echo hunter2-correct-horse"), ran(1, "hunter2-correct-horse")]
    (tmp_path / "leaky.json").write_text(json.dumps(leaky))
    done = page.run("\n".join(page.blocks(DOCUMENT, "sh")), tmp_path)
    for said in (
        "first-steps: 4 records of openhands.v0 became 4 events, 0 opaque",
        "ok: 7 events verify",
        "one: 40 records of openhands.v0 became 40 events",
        "two: 20 records of openhands.v0 became 20 events",
        '"time_utc":"2025-01-02T02:04:00.000000Z"',
        "one: 0 records of openhands.v0 became 0 events, 0 opaque, 0 with something that found no place, 40 imported",
        '"session":"orchard-698-orchard-699-1"',
        "leaky: 2 records of openhands.v0 became 2 events, 0 opaque, 0 with something that found no place, 2 with",
    ):
        assert said in done.stdout, f"{said!r} is missing in:\n{done.stdout}\n{done.stderr}"
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert len(lines) == 60
    assert {line["session"] for line in lines} == {"one", "two"}


def test_every_format_is_named() -> None:
    """The page names each format that can be imported."""
    for format in FORMATS:
        assert f"`{format.name}`" in DOCUMENT
