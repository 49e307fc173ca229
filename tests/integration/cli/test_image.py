"""`chronicled image` against a daemon and a real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.integration.cli.conftest import Commands


@pytest.fixture
def image(engine: Engine) -> str:
    """The full name of an image that the test builds; gone afterwards."""
    return "chronicled.invalid/default/cli/made:1"


def test_an_image_is_built_listed_and_pruned(commands: Commands, engine: Engine, image: str, tmp_path: Path) -> None:
    """A folder becomes an image under the name that is printed, is listed as ours, and goes with a prune."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "note").write_text("from the folder\n")
    (folder / "Other").write_text(f"FROM {MUSL}\nARG word\nCOPY note /note\nRUN echo $word > /word\n")
    built = commands.run("image", "build", "cli/made:1", str(folder), "-f", "Other", "--arg", "word=a,b=c")
    assert (built.returncode, built.stdout.decode().strip()) == (0, image), built.stderr
    assert engine("run", "--rm", "--network", "none", image, "cat", "/note", "/word") == "from the folder\na,b=c"
    listed = commands.run("image", "ls").stdout.decode()
    line = next(line for line in listed.splitlines() if line.startswith(image))
    assert line.split()[4] == "built"
    assert commands.run("image", "prune").stdout == b"", "it was used within the last hour"
    gone = commands.run("image", "prune", "--unused", "0", "--json")
    assert [each["image"] for each in json.loads(gone.stdout)["images"]] == [image]


def test_what_fails_is_told_and_ends_with_one(commands: Commands, engine: Engine, image: str) -> None:
    """A Dockerfile on stdin whose step fails, and an image that cannot be had, end with 1 and what to do."""
    failed = commands.run("image", "build", "cli/made:1", "-", typed=f"FROM {MUSL}\nRUN echo told; exit 3\n".encode())
    assert failed.returncode == 1
    assert b"told" in failed.stderr
    missing = commands.run("image", "prefetch", MUSL, image, "--json")
    assert missing.returncode == 1
    ends = [json.loads(line) for line in missing.stdout.splitlines()]
    assert [each["status"] for each in ends] == ["done", "failed"]
    assert "build it again" in ends[1]["error"]
    assert commands.run("image", "prefetch", "no such name").returncode == 2
