"""docs/exports.md is true: its blocks run as they stand, one after another, and what they write is what they say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.docs import page
from tests.unit.formats import atif_schema, v0_schema

DOCUMENT = page.text_of("docs/exports.md")


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home, and a daemon in it."""
    with page.fresh_home("exports") as path, (path / "log").open("wb") as log:
        environment = page.newcomer(path)
        with subprocess.Popen(["chronicled", "serve"], env=environment, stdout=log, stderr=log) as daemon:
            end = time.monotonic() + 20
            while subprocess.run(["chronicled", "session", "ls"], env=environment, capture_output=True).returncode:
                assert daemon.poll() is None, (path / "log").read_text()
                assert time.monotonic() < end
            yield path
            subprocess.run(["chronicled", "session", "close", "demo"], env=environment, capture_output=True)
            daemon.send_signal(signal.SIGTERM)


def test_every_block_of_the_exports_page_runs_as_written(home: Path) -> None:
    """Each format is written beside a daemon and is valid, and a stranger's script verifies the lines."""
    (home / "verify.py").write_text(page.blocks(DOCUMENT, "python")[1])
    done = page.run("\n".join(page.blocks(DOCUMENT, "sh")), home)
    assert "verified up to leaf" in done.stdout
    v0_schema.check(json.loads((home / "demo.openhands.json").read_bytes()))
    atif_schema.check(json.loads((home / "demo.atif.json").read_bytes()))
    assert "number 3" in (home / "demo.cast").read_text()
    assert json.loads((home / "summary.json").read_bytes())["format"] == "openhands"
    (home / "take_out.py").write_text(page.blocks(DOCUMENT, "python")[0])
    copied = page.run(f"{sys.executable} take_out.py", home)
    assert json.loads(copied.stdout) == json.loads((home / "demo.openhands.json").read_bytes())
    changed = (home / "demo.jsonl").read_text().replace("number", "numbeR", 1)
    (home / "changed.jsonl").write_text(changed)
    refused = subprocess.run([sys.executable, "verify.py", "changed.jsonl"], cwd=home, capture_output=True, check=False)
    assert refused.returncode != 0, "the script must see a changed byte"
    assert b"was changed" in refused.stderr


def test_every_format_and_variant_is_named() -> None:
    """The page names what the command line offers."""
    from chronicled.migrations.formats.choice import FORMATS

    for format, variants in FORMATS.items():
        row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{format}` |"))
        assert all(f"`{variant}`" in row for variant in variants)
