"""A migration on a disk that is full or fails: what is there stays whole, and the next run ends well."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.golden.databases import take_back, write
from tests.migrations.test_killed_steps import check_at_the_end, check_on_the_way

from chronicled.storage.sqlite import LOG_NAME
from chronicled.storage.verification import verify_file

ROOT = Path(__file__).parents[2]
EVENTS = 13_000
ENOUGH = 1.3
FAULTS = [("write", number) for number in (1, 3, 30, 200, 700)] + [("sync", number) for number in (1, 2, 3, 5, 8)]


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a log as a program of step 1 left it."""
    path = tmp_path_factory.mktemp("former") / LOG_NAME
    asyncio.run(write(path, EVENTS))
    take_back(path, 1)
    return path


def step(path: Path, library: Path | None = None, **faults: str) -> tuple[int, str]:
    """Let the steps be taken, on a disk that fails if a library is given; return how that ended and what it said."""
    environment = dict(os.environ)
    if library is not None:
        environment |= {
            "LD_PRELOAD": str(library),
            "FAULT_DIRECTORY": str(path.parent),
            **{f"FAULT_{name.upper()}": value for name, value in faults.items()},
        }
    command = [sys.executable, "-m", "tests.migrations.stepper", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("room", [0.05, 0.6, 1.02, 1.1, ENOUGH])
def test_a_disk_that_fills_up_costs_nothing(library: Path, former: Path, tmp_path: Path, room: float) -> None:
    """Wherever the room ends, the log is whole, an unfinished copy gives its room back, the next run ends well."""
    path = tmp_path / "data" / LOG_NAME
    path.parent.mkdir()
    shutil.copyfile(former, path)
    quota = tmp_path / "quota"
    quota.write_text(str(int(former.stat().st_size * (1 + room))))
    code, said = step(path, library, quota=str(quota))
    assert (code, "full" in said) == ((1, True) if room < ENOUGH else (0, False)), said
    assert not list(path.parent.glob("*.part"))
    check_on_the_way(path, former)
    assert step(path) == (0, "")
    check_at_the_end(path, former)


@pytest.mark.parametrize(("operation", "number"), FAULTS)
def test_a_write_or_sync_that_fails_costs_nothing(
    library: Path, former: Path, tmp_path: Path, operation: str, number: int
) -> None:
    """An error of the disk ends the run; what it leaves is whole, and the next run ends well."""
    path = tmp_path / "data" / LOG_NAME
    path.parent.mkdir()
    shutil.copyfile(former, path)
    code, said = step(path, library, operation=operation, nth=str(number), mark=str(tmp_path / "mark"))
    assert (code, (tmp_path / "mark").exists()) == (1, True), said
    check_on_the_way(path, former)
    assert step(path) == (0, "")
    check_at_the_end(path, former)


def test_a_rewrite_without_room_leaves_nothing(library: Path, former: Path, tmp_path: Path) -> None:
    """A disk that fills up is told as such; neither the new directory nor half of one is there."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copyfile(former, old / LOG_NAME)
    quota = tmp_path / "quota"
    quota.write_text("300000")
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "FAULT_DIRECTORY": f"{new}.rewriting",
        "FAULT_QUOTA": str(quota),
    }
    command = [sys.executable, "-m", "chronicled.cli", "migrate", "rewrite", str(old), str(new)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "full" in done.stderr) == (4, True), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "quota"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not verify_file(new / LOG_NAME).problems
