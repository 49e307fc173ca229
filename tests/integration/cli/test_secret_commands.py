"""Secrets on the command line: values come from variables, files and standard input, and are never shown."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.conftest import Commands

VALUE = "hT7%kq2/Zp+9wLm4"
OTHER = "mN3xvb8-Xc+1rJd6"


def test_a_session_takes_secrets_from_variables_and_files(commands: Commands, tmp_path: Path) -> None:
    """`session create --secret` reads a variable or a file; commands have the values, and output shows the names."""
    file = tmp_path / "key"
    file.write_text(OTHER + "\n")
    arguments = ("session", "create", "s", "--secret", "TOKEN", "--secret", f"KEY={file}")
    created = commands.run(*arguments, environment={"TOKEN": VALUE})
    assert created.returncode == 0, created.stderr
    done = commands.run("run", "--session", "s", "--", "sh", "-c", 'echo "$TOKEN $KEY"; printf %s "$TOKEN$KEY" | wc -c')
    assert done.stdout.decode().split() == ["<secret:TOKEN>", "<secret:KEY>", str(len(VALUE + OTHER))]
    assert commands.run("secret", "ls", "s").stdout.decode().splitlines() == ["KEY $KEY", "TOKEN $TOKEN"]
    assert VALUE not in commands.run("events", "--session", "s").stdout.decode()


def test_a_secret_can_come_and_go_while_the_session_is_open(commands: Commands) -> None:
    """`secret put` reads standard input; `secret rm` takes the variable away, and the value stays secret."""
    commands.run("session", "create", "later")
    put = commands.run("secret", "put", "later", "TOKEN", "--file", "-", "--variable", "MINE", typed=VALUE.encode())
    assert (put.returncode, put.stdout, put.stderr) == (0, b"", b"")
    assert commands.run("run", "--session", "later", "--", "sh", "-c", "echo $MINE").stdout == b"<secret:TOKEN>\n"
    assert commands.run("secret", "rm", "later", "TOKEN").returncode == 0
    done = commands.run("run", "--session", "later", "--", "sh", "-c", f"echo ${{MINE-none}} {VALUE}")
    assert done.stdout == b"none <secret:TOKEN>\n"


def test_what_cannot_be_read_or_kept_is_told_without_the_value(commands: Commands) -> None:
    """A variable that is not set, a value that is too short and a secret that is not there have their own errors."""
    commands.run("session", "create", "refused")
    missing = commands.run("session", "create", "--secret", "NOT_SET_HERE")
    assert missing.returncode == 2
    assert b"NOT_SET_HERE is not set" in missing.stderr
    short = commands.run("secret", "put", "refused", "PIN", "--file", "-", typed=b"q7w!")
    assert short.returncode not in {0, 3}
    assert b"too short" in short.stderr
    assert b"q7w!" not in short.stderr
    assert commands.run("secret", "rm", "refused", "PIN").returncode == 4
