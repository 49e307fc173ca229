"""The guide to units is true: its files and its blocks, one after another, as a newcomer would type them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs" / "units.md").read_text()
BLOCK = re.compile(r"^(?:`(?P<file>[^`\n]+)`:\n\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SERVE = "chronicled serve --config chronicled.toml &\n"
READY = (
    'for _ in $(seq 200); do curl -sf --unix-socket "$XDG_RUNTIME_DIR/chronicled/chronicled.sock" http://x/readyz'
    " >/dev/null && break; sleep 0.1; done\n"
)
SECONDS_MAX = 240.0


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home with a short path, and in it an environment with chronicled and what it needs."""
    path = Path(tempfile.mkdtemp(prefix="chronicled-units-"))
    venv.create(path / "venv", with_pip=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(path / "venv")}))
    # What chronicled needs is here already; chronicled itself is installed as by anybody.
    own = sysconfig.get_path("purelib")
    (site / "_dependencies.pth").write_text(f"import sys; sys.path.append({own!r})\n")
    pip = [str(path / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--ignore-installed", str(ROOT)], check=True, timeout=120)
    # pip finds it already there, and so makes no program of it here.
    program = path / "venv" / "bin" / "pytest"
    program.write_text(f"#!{path}/venv/bin/python\nimport pytest\n\nraise SystemExit(pytest.console_main())\n")
    program.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def script(home: Path) -> str:
    """Return the guide as a script: files are written where their names stand, and a daemon is waited for."""
    parts = ["set -euo pipefail -m", "trap 'kill -TERM %1 2>/dev/null; wait' EXIT"]
    for number, found in enumerate(BLOCK.finditer(GUIDE)):
        text, file = found["text"], found["file"]
        if file is not None:
            (home / f"block-{number}").write_text(text)
            parts.append(f"cp {home}/block-{number} {file}")
        elif found["language"] == "sh":
            parts.append(text.replace(SERVE, SERVE + READY))
        else:
            raise AssertionError(f"a block of {found['language']} that is no file and is not run: {text[:200]}")
    return "\n".join([*parts, "echo ALL-RAN"])


@pytest.mark.timeout(420)
def test_every_block_of_the_guide_runs_as_written(home: Path) -> None:
    """From an empty folder to a unit that is judged, loaded, changed and used: word by word."""
    environment = {
        "PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }
    (home / "run").mkdir(mode=0o700)
    (home / "work").mkdir()
    with subprocess.Popen(
        ["bash", "-c", script(home)],
        cwd=home / "work",
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
    said = (
        "acme  loaded  acme-greet 1.0.0  acme.greet 1",
        '"greeted":2',
        "version_mismatch",
        "takes version 1, and this daemon sends version 2",
        "hello you and <secret:acme.badge>",
        '"reason":"policy"',
        "ALL-RAN",
    )
    for words in said:
        assert words in output, f"{words!r} is missing in:\n{output}\n{errors}"
    assert "badge-1234" not in output
