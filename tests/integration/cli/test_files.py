"""Files by the command line: put, get and ls against a real daemon."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from tests.integration.cli.conftest import END_SECONDS_MAX, Commands


@pytest.fixture(scope="module", autouse=True)
def session(commands: Commands) -> None:
    """A session for the tests of this file."""
    assert commands.run("session", "create", "files").returncode == 0


def test_a_tree_goes_in_and_comes_out_again(commands: Commands, tmp_path: Path) -> None:
    """A folder's files, modes and inner links survive both ways; what points outside is left out and named."""
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(os.urandom(100_000))
    (source / "program").write_text("#!/bin/sh\n")
    (source / "program").chmod(0o755)
    (source / "link").symlink_to("deep/file")
    (source / "outside").symlink_to("/etc/hostname")
    done = commands.run("files", "put", "--session", "files", source, "tree")
    assert (done.returncode, b"outside is left out: link_outside" in done.stderr) == (0, True), done.stderr
    target = tmp_path / "target"
    done = commands.run("files", "get", "-r", "--session", "files", "tree", target)
    assert done.returncode == 0, done.stderr
    assert (target / "deep" / "file").read_bytes() == (source / "deep" / "file").read_bytes()
    assert ((target / "program").stat().st_mode & 0o777, (target / "link").readlink()) == (0o755, Path("deep/file"))
    assert not (target / "outside").is_symlink()


def test_one_file_goes_through_pipes_too(commands: Commands, tmp_path: Path) -> None:
    """A file arrives with its mode, and stdin and stdout stand for files."""
    (tmp_path / "f").write_bytes(b"\0\xff\n")
    (tmp_path / "f").chmod(0o751)
    assert commands.run("files", "put", "--session", "files", tmp_path / "f", "one").returncode == 0
    assert commands.run("files", "get", "--session", "files", "one", "-").stdout == b"\0\xff\n"
    assert commands.run("files", "put", "--session", "files", "-", "empty").returncode == 0
    shown = {each["name"]: each for each in commands.json_lines("files", "ls", "--session", "files", "--json")}
    assert (shown["one"]["mode"], shown["one"]["size"], shown["empty"]["size"]) == ("0751", 3, 0)
    assert commands.run("files", "get", "--session", "files", "one", tmp_path / "back").returncode == 0
    assert (tmp_path / "back").read_bytes() == b"\0\xff\n"
    assert b"751            3" in commands.run("files", "ls", "-l", "--session", "files").stdout


def test_failures_have_their_exit_codes(commands: Commands, tmp_path: Path) -> None:
    """An action that fails ends with 1, what is refused with 4, and nothing is written here."""
    failed = commands.run("files", "get", "--session", "files", "none", tmp_path / "none")
    assert (failed.returncode, b"No such file" in failed.stderr, list(tmp_path.iterdir())) == (1, True, [])
    assert commands.run("files", "ls", "--session", "files", "none").returncode == 4
    assert commands.run("files", "put", "--session", "absent", tmp_path, "x").returncode == 4
    assert commands.run("files", "put", "--session", "files", tmp_path / "none", "x").returncode == 4
    for mode in ("4755", "rwx", "7", "0o755"):
        wrong = commands.run("files", "put", "--session", "files", "--mode", mode, "-", "x")
        assert (wrong.returncode, b"three octal digits" in wrong.stderr) == (2, True), wrong
    assert commands.run("files", "put", "--session", "files", "--mode", "640", "-", "bits").returncode == 0
    listed = commands.json_lines("files", "ls", "--session", "files", "--json")
    assert {each["name"]: each["mode"] for each in listed}["bits"] == "0640"


def test_a_file_comes_though_the_daemon_was_killed(commands: Commands, tmp_path: Path) -> None:
    """With `kill -9` meanwhile, a `get` that waits for its turn and a `submit --wait` go on with the next daemon."""
    commands.run("files", "put", "--session", "files", Path(__file__), "kept")
    busy = json.dumps({"command": "while [ ! -e go ]; do sleep 0.05; done"})

    def open_actions() -> int:
        return int(commands.json_lines("session", "show", "files", "--json")[0]["open_actions"])

    def until_open(count: int) -> None:
        end = time.monotonic() + END_SECONDS_MAX
        while open_actions() < count:
            assert time.monotonic() < end

    waits = commands.spawn("submit", "--session", "files", "--wait", "run", busy)
    until_open(1)
    gets = commands.spawn("files", "get", "--session", "files", "kept", "-")
    until_open(2)
    commands.kill()
    commands.start()
    assert commands.run("run", "--session", "files", "--lane", "other", "--", "touch go").returncode == 0
    output, errors = gets.communicate(timeout=END_SECONDS_MAX)
    assert (gets.returncode, output, errors) == (0, Path(__file__).read_bytes(), b"")
    _, errors = waits.communicate(timeout=END_SECONDS_MAX)
    assert (waits.returncode, errors) == (0, b"")
