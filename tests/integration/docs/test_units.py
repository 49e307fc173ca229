"""The guide to units is true: its files and its blocks, one after another, as a newcomer would type them."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.docs import page

GUIDE = page.text_of("docs/units.md")
BLOCK = re.compile(r"^(?:`(?P<file>[^`\n]+)`:\n\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SERVE = "chronicled serve --config chronicled.toml &\n"
SECONDS_MAX = 240.0


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a fresh home, and in it an environment with chronicled and what it needs."""
    with page.fresh_home("units") as path:
        _install(path)
        yield path


def _install(path: Path) -> None:
    venv.create(path / "venv", with_pip=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(path / "venv")}))
    # What chronicled needs is here already; chronicled itself is installed as by anybody.
    own = sysconfig.get_path("purelib")
    (site / "_dependencies.pth").write_text(f"import sys; sys.path.append({own!r})\n")
    pip = [str(path / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--ignore-installed", str(page.ROOT)], check=True, timeout=120)
    # pip finds it already there, and so makes no program of it here.
    program = path / "venv" / "bin" / "pytest"
    program.write_text(f"#!{path}/venv/bin/python\nimport pytest\n\nraise SystemExit(pytest.console_main())\n")
    program.chmod(0o755)


def script(home: Path) -> str:
    """Return the guide as a script: files are written where their names stand, and a daemon is waited for."""
    parts = ["set -m", "trap 'kill -TERM %1 2>/dev/null; wait' EXIT"]
    for number, found in enumerate(BLOCK.finditer(GUIDE)):
        text, file = found["text"], found["file"]
        if file is not None:
            (home / f"block-{number}").write_text(text)
            parts.append(f"cp {home}/block-{number} {file}")
        elif found["language"] == "sh":
            parts.append(text.replace(SERVE, SERVE + page.READY))
        else:
            raise AssertionError(f"a block of {found['language']} that is no file and is not run: {text[:200]}")
    return "\n".join([*parts, "echo ALL-RAN"])


@pytest.mark.timeout(420)
def test_every_block_of_the_guide_runs_as_written(home: Path) -> None:
    """From an empty folder to a unit that is judged, loaded, changed and used: word by word."""
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = f"{home / 'venv' / 'bin'}:{os.environ['PATH']}"
    (home / "work").mkdir()
    environment = page.newcomer(home, PATH=path, **pip)
    done = page.run(script(home), home, where=home / "work", environment=environment, seconds=SECONDS_MAX)
    output, errors = done.stdout, done.stderr
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
