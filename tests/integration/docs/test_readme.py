"""The README is true: its blocks run as they stand, one after another, as a newcomer would type them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
SECONDS_MAX = 90


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home with a short path (a Unix socket's has at most 107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="chronicled-readme-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_every_block_of_the_readme_runs_as_written(home: Path) -> None:
    """Serve, run, sessions, curl, the Python client and the verification work word by word on a fresh home."""
    example = home / "example.py"
    example.write_text(blocks("python")[0])
    shell = blocks("sh")
    assert shell[0].strip() == "chronicled serve &"
    ready = (
        "DAEMON=$!\ntrap 'kill -TERM $DAEMON; wait $DAEMON' EXIT\n"
        'for _ in $(seq 100); do curl -sf --unix-socket "$XDG_RUNTIME_DIR/chronicled/chronicled.sock" http://x/readyz'
        " >/dev/null && break; sleep 0.1; done\n"
    )
    script = "\n".join(
        ["set -euo pipefail", shell[0], ready, *shell[1:-1], f"{sys.executable} {example}", shell[-1], "echo ALL-RAN"]
    )
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    (home / "run").mkdir(mode=0o700)
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"{output}\n{errors}"
    for said in ("hello from ", "hello world from /tmp/work", '"output":"Linux\\n"', "ok 0 one\ntwo", "ALL-RAN"):
        assert said in output, f"{said!r} is missing in:\n{output}\n{errors}"


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
