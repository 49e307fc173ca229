"""Named cursors on the command line: a script that keeps nothing goes on where it said that it was."""

from __future__ import annotations

from tests.integration.cli.conftest import Commands


def test_a_script_goes_on_where_it_was(commands: Commands) -> None:
    """What was taken does not come again, across a kill of the daemon; who has saved nothing begins at the start."""
    commands.run("session", "create", "s")
    assert commands.run("run", "--session", "s", "--", "true").returncode == 0
    every = commands.json_lines("events", "--json")
    assert commands.json_lines("events", "--cursor", "billing", "--json") == every
    assert commands.run("cursor", "show", "billing").stdout == b"0\n"
    taken = every[-3]["position"]
    assert commands.run("cursor", "save", "billing", str(taken)).returncode == 0
    commands.kill()
    commands.start()
    assert commands.json_lines("events", "--session", "s", "--cursor", "billing", "--json")[:2] == every[-2:]
    assert commands.run("cursor", "show", "billing").stdout.startswith(b"%d@" % taken)


def test_cursors_are_listed_and_forgotten(commands: Commands) -> None:
    """A person sees who is how far; what is no name, no place or no cursor is refused, and says so by its exit code."""
    commands.run("session", "create", "s")
    commands.run("cursor", "save", "listed", "1")
    (shown,) = (each for each in commands.json_lines("cursor", "ls", "--json") if each["name"] == "listed")
    assert (shown["position"], shown["behind"] > 0) == (1, True)
    lines = commands.run("cursor", "ls").stdout.decode().splitlines()
    assert lines[0].split() == ["NAME", "POSITION", "BEHIND", "SAVED"]
    assert ["listed", "1"] in [line.split()[:2] for line in lines]
    assert commands.run("cursor", "rm", "listed").returncode == 0
    assert commands.run("cursor", "rm", "listed").returncode == 4
    assert commands.run("cursor", "save", "listed", "999999").returncode == 2
    assert commands.run("cursor", "save", "a/b", "1").returncode == 2
    assert commands.run("events", "--cursor", "listed", "--after", "1").returncode == 2
    assert commands.run("events", "--cursor", "listed", "--data", commands.data).returncode == 2
