"""The README is true: its blocks run as they stand, one after another, as a newcomer would type them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.docs import page

ROOT = page.ROOT
README = page.text_of("README.md")


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home."""
    with page.fresh_home("readme") as path:
        yield path


def test_every_block_of_the_readme_runs_as_written(home: Path) -> None:
    """Serve, run, sessions, curl, the Python client and the verification work word by word on a fresh home."""
    example = home / "example.py"
    example.write_text(page.blocks(README, "python")[0])
    shell = page.blocks(README, "sh")
    assert shell[0].strip() == "chronicled serve &"
    ready = f"DAEMON=$!\ntrap 'kill -TERM $DAEMON; wait $DAEMON' EXIT\n{page.READY}"
    script = "\n".join([shell[0], ready, *shell[1:-1], f"{sys.executable} {example}", shell[-1], "echo ALL-RAN"])
    done = page.run(script, home)
    for said in ("hello from ", "hello world from /tmp/work", '"output":"Linux\\n"', "ok 0 one\ntwo", "ALL-RAN"):
        assert said in done.stdout, f"{said!r} is missing in:\n{done.stdout}\n{done.stderr}"


def test_the_named_make_targets_exist() -> None:
    """Every `make` target that a document names is in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"`?make ([a-z-]+)", document.read_text()):
            if target in {"that", "it", "a", "the"}:
                continue
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document.name} names `make {target}`"


def test_every_path_that_the_architecture_names_exists() -> None:
    """ARCHITECTURE.md sends nobody to a file that is not there."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    parts = ("events", "storage", "runtimes", "migrations", "daemon")
    for path in re.findall(r"`([\w./]+\.py|[\w./]+/)`", text):
        if path == "chronicled/__init__.py":
            continue  # named because it must not exist
        spelled = [ROOT / path, *(ROOT / part / "chronicled" / path for part in parts)]
        spelled += list(ROOT.glob(path.replace("...", "**"))) if "..." in path else []
        assert any(candidate.exists() for candidate in spelled), f"ARCHITECTURE.md names {path}"
