"""What is open in a session: listed, typed to and interrupted from the command line."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.cli.conftest import END_SECONDS_MAX, Commands


def until(holds: Callable[[], bool]) -> None:
    """Return once it holds."""
    end = time.monotonic() + END_SECONDS_MAX
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def opened(commands: Commands) -> list[dict[str, Any]]:
    """Return what the session's list of open actions says."""
    return commands.json_lines("session", "actions", "s", "--json")


@pytest.fixture(autouse=True)
def session(commands: Commands) -> None:
    """An open session `s`, of the first test on."""
    commands.run("session", "create", "s")


def submit(commands: Commands, command: str, lane: str = "main") -> str:
    """Submit a command and return its id."""
    done = commands.run("submit", "--session", "s", "--lane", lane, "run", f'{{"command": "{command}"}}')
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_what_is_open_is_listed_and_typed_to(commands: Commands) -> None:
    """The list has what runs and what waits, with its id; what is typed to one reaches it, and what ended is gone."""
    reads, waits, other = (
        submit(commands, "read x; echo got $x"),
        submit(commands, "true"),
        submit(commands, "cat", "b"),
    )
    until(lambda: [each["needs_input"] for each in opened(commands)] == [True, False, True])
    assert [(each["action"]["id"], each["status"]) for each in opened(commands)] == [
        (reads, "running"),
        (waits, "queued"),
        (other, "running"),
    ]
    shown = commands.run("session", "actions", "s").stdout.decode().splitlines()
    assert [line.split()[0] for line in shown] == ["ID", reads, waits, other]
    assert "needs input" in shown[1]
    assert shown[1].endswith("run read x; echo got $x")
    assert commands.run("input", "--session", "s", reads, "hello").returncode == 0
    assert commands.run("output", "--session", "s", reads).stdout == b"got hello\n"
    assert commands.run("input", "--session", "s", other, "-", typed=b"from a pipe\n").returncode == 0
    assert commands.run("input", "--session", "s", "--no-enter", other, "\x04").returncode == 0
    assert commands.run("output", "--session", "s", other).stdout == b"from a pipe\n"
    assert commands.run("output", "--session", "s", waits).returncode == 0
    assert opened(commands) == []
    assert commands.run("input", "--session", "s", other, "late").returncode == 4


def test_what_runs_is_interrupted(commands: Commands) -> None:
    """Like Ctrl-C: the command ends by the signal, and one that waits for its turn is refused."""
    runs, waits = submit(commands, "sleep 60"), submit(commands, "true")
    until(lambda: commands.run("interrupt", "--session", "s", runs).returncode == 0)
    assert commands.run("output", "--session", "s", runs).returncode == 130
    assert commands.run("output", "--session", "s", waits).returncode == 0
    assert commands.run("interrupt", "--session", "s", runs).returncode == 4
    assert commands.run("interrupt", "--session", "s", "--signal", "SIGNONE", runs).returncode == 2


def test_options_of_the_command_itself_are_explained(commands: Commands) -> None:
    """Who forgets `--` before a command with options is told of it."""
    done = commands.run("run", "ls", "-la")
    assert done.returncode == 2
    assert b"stand behind `--`" in done.stderr
    assert b"stand behind" not in commands.run("session", "ls", "--nonsense").stderr
