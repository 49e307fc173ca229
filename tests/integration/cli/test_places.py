"""`chronicled serve` where it cannot live: each place is refused in one line that says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.cli.conftest import BIN, END_SECONDS_MAX

Place = Callable[[Path], list[str]]


def data_in_a_file(directory: Path) -> list[str]:
    """Data in something that is no directory."""
    (directory / "file").touch()
    return ["--data", f"{directory}/file/data", "--socket", f"{directory}/s"]


def socket_in_the_open(directory: Path) -> list[str]:
    """A socket that everybody could replace."""
    (directory / "open").mkdir()
    (directory / "open").chmod(0o777)
    return ["--data", f"{directory}/data", "--socket", f"{directory}/open/s"]


def socket_is_a_file(directory: Path) -> list[str]:
    """A socket where a file is."""
    (directory / "s").touch()
    return ["--data", f"{directory}/data", "--socket", f"{directory}/s"]


def data_in_proc(directory: Path) -> list[str]:
    """Data where nobody can make a directory."""
    return ["--data", "/proc/chronicled/data", "--socket", f"{directory}/s"]


def lock_that_is_a_directory(directory: Path) -> list[str]:
    """A lock that cannot be opened."""
    (directory / "data" / "daemon.lock").mkdir(parents=True)
    (directory / "data").chmod(0o700)
    return ["--data", f"{directory}/data", "--socket", f"{directory}/s"]


PLACES: list[Place] = [data_in_a_file, socket_in_the_open, socket_is_a_file, data_in_proc, lock_that_is_a_directory]


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is not meant to last."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
    return subprocess.run(
        [BIN, "serve", *arguments], env=environment, capture_output=True, text=True, timeout=END_SECONDS_MAX
    )


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_place_where_it_cannot_live_is_refused(place: Place, tmp_path: Path) -> None:
    """Exit code 4, one line, no traceback."""
    done = serve(*place(tmp_path))
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_log_that_cannot_be_read_is_told_without_a_traceback(tmp_path: Path) -> None:
    """`audit verify` and `migrate status` say in one line what they met instead of a log."""
    (tmp_path / "log.sqlite").mkdir()
    for command in (["audit", "verify"], ["migrate", "status"]):
        done = subprocess.run([BIN, *command, "--data", tmp_path], capture_output=True, text=True)
        assert done.returncode in {1, 4}, done
        assert done.stderr.count("\n") == 1, done


def test_a_foreign_database_is_refused(tmp_path: Path) -> None:
    """A database of something else is not taken for a log."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with sqlite3.connect(data / "log.sqlite") as connection:
        connection.execute("CREATE TABLE x (y)")
    connection.close()
    done = serve("--data", str(data), "--socket", str(tmp_path / "s"))
    assert done.returncode == 70
    assert "not a log of chronicled" in done.stderr
