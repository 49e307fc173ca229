"""`chronicled migrate export --live`: the daemon makes the export; whoever asks needs no right to its files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.integration.cli.conftest import Commands

from chronicled.migrations.formats.choice import FORMATS


def ready(commands: Commands, session: str) -> None:
    """Have a session of that name in which something was printed."""
    if commands.run("session", "show", session).returncode:
        assert commands.run("session", "create", session).returncode == 0
        assert commands.run("run", "--session", session, "--", "echo héllo; seq 20000").returncode == 0


@pytest.mark.parametrize("format", FORMATS)
def test_a_daemon_writes_what_its_files_give(commands: Commands, format: str) -> None:
    """The same bytes on standard output; the summary tells how many, and up to where."""
    ready(commands, "live-export")
    asked = commands.run("migrate", "export", "live-export", "--format", format, "--live", "--json")
    assert asked.returncode == 0, asked.stderr
    read = commands.run("migrate", "export", "live-export", "--format", format, "--data", commands.data, "--json")
    assert asked.stdout == read.stdout
    summary, other = json.loads(asked.stderr), json.loads(read.stderr)
    assert summary == {
        "format": format,
        "session": "live-export",
        "head": other["head"],
        "bytes": len(asked.stdout),
    }


def test_a_file_is_whole_or_not_there(commands: Commands, tmp_path: Path) -> None:
    """With `--output` the file takes its name at the end, as without a daemon; options of a format are passed on."""
    ready(commands, "live-export")
    target = tmp_path / "out.cast"
    target.write_text("before")
    more = ("--format", "asciicast", "--variant", "v2", "--idle-limit", "2", "--lane", "main", "--after", "1")
    assert commands.run("migrate", "export", "nobody", "--live", *more, "--output", target).returncode == 4
    assert target.read_text() == "before"
    done = commands.run("migrate", "export", "live-export", "--live", *more, "--output", target)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    read = commands.run("migrate", "export", "live-export", *more, "--data", commands.data)
    assert target.read_bytes() == read.stdout
    assert os.listdir(tmp_path) == ["out.cast"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--data", "/nowhere"), 2),
        (("--tenant", "other"), 2),
        (("--no-units",), 2),
        (("--unit", "acme"), 2),
        (("--variant", "v9"), 2),
        (("--after", "99999999"), 2),
        (("--socket", "/nowhere/socket"), 3),
    ],
)
def test_what_is_wrong_is_told_by_the_exit_code(commands: Commands, more: tuple[str, ...], code: int) -> None:
    """What is for reading files is refused with `--live`; a daemon that is not there is told as by every command."""
    ready(commands, "live-export")
    done = commands.run("migrate", "export", "live-export", "--format", "jsonl", "--live", *more)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert done.stderr
