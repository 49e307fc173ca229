"""A page of the documentation: its blocks, and how a newcomer runs them on a fresh home."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["READY", "ROOT", "blocks", "fresh_home", "newcomer", "run", "text_of"]

ROOT = Path(__file__).parents[3]
SECONDS_MAX = 90.0
READY = (
    'for _ in $(seq 200); do curl -sf --unix-socket "$XDG_RUNTIME_DIR/chronicled/chronicled.sock" http://x/readyz'
    " >/dev/null && break; sleep 0.1; done\n"
)
"""Waits for a daemon that was started in the background, for the commands that would not wait by themselves."""


def text_of(path: str) -> str:
    """Return a page."""
    return (ROOT / path).read_text()


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@contextmanager
def fresh_home(name: str) -> Generator[Path]:
    """Give a fresh home with a short path: a Unix socket's has at most 107 bytes."""
    home = Path(tempfile.mkdtemp(prefix=f"chronicled-{name}-"))
    try:
        (home / "run").mkdir(mode=0o700)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def newcomer(home: Path, **more: str) -> dict[str, str]:
    """Return a newcomer's environment: nothing but his own directories, and our commands on the path."""
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def run(
    script: str,
    home: Path,
    *,
    where: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = SECONDS_MAX,
) -> subprocess.CompletedProcess[str]:
    """Run the script with bash, which ends at the first failure; all that it started ends with it. It must succeed."""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=where or home,
        env=environment or newcomer(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, f"{output}\n{errors}"
    return subprocess.CompletedProcess(process.args, 0, output, errors)
