"""docs/exports.md is true: its blocks run as they stand, one after another, and what they write is what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.formats import atif_schema, v0_schema

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "exports.md").read_text()
SECONDS_MAX = 90


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home with a short path (a Unix socket's has at most 107 bytes), and a daemon in it."""
    path = Path(tempfile.mkdtemp(prefix="chronicled-exports-"))
    (path / "run").mkdir(mode=0o700)
    with (
        (path / "log").open("wb") as log,
        subprocess.Popen(["chronicled", "serve"], env=environment(path), stdout=log, stderr=log) as daemon,
    ):
        end = time.monotonic() + 20
        while subprocess.run(["chronicled", "session", "ls"], env=environment(path), capture_output=True).returncode:
            assert daemon.poll() is None, (path / "log").read_text()
            assert time.monotonic() < end
        yield path
        subprocess.run(["chronicled", "session", "close", "demo"], env=environment(path), capture_output=True)
        daemon.send_signal(signal.SIGTERM)
    shutil.rmtree(path, ignore_errors=True)


def environment(home: Path) -> dict[str, str]:
    """Return a newcomer's environment."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }


def test_every_block_of_the_exports_page_runs_as_written(home: Path) -> None:
    """Each format is written beside a daemon and is valid, and a stranger's script verifies the lines."""
    (home / "verify.py").write_text(blocks("python")[0])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks("sh"))],
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "verified up to leaf" in done.stdout
    v0_schema.check(json.loads((home / "demo.openhands.json").read_bytes()))
    atif_schema.check(json.loads((home / "demo.atif.json").read_bytes()))
    assert "number 3" in (home / "demo.cast").read_text()
    assert json.loads((home / "summary.json").read_bytes())["format"] == "openhands"
    changed = (home / "demo.jsonl").read_text().replace("number", "numbeR", 1)
    (home / "changed.jsonl").write_text(changed)
    refused = subprocess.run([sys.executable, "verify.py", "changed.jsonl"], cwd=home, capture_output=True, check=False)
    assert refused.returncode != 0, "the script must see a changed byte"
    assert b"was changed" in refused.stderr


def test_every_format_and_variant_is_named() -> None:
    """The page names what the command line offers."""
    from chronicled.cli.migrate.export import FORMATS

    for format, variants in FORMATS.items():
        row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{format}` |"))
        assert all(f"`{variant}`" in row for variant in variants)
