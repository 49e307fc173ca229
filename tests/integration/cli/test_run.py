"""`chronicled run`: the command's own output and exit code, and a clean end whatever happens to either side."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from tests.integration.cli.conftest import BIN, END_SECONDS_MAX, Commands, line_of


def open_sessions(commands: Commands) -> set[str]:
    """Return the names of open sessions."""
    return {each["session"] for each in commands.json_lines("session", "ls", "--json") if each["status"] == "open"}


@pytest.mark.parametrize(
    ("command", "output", "code"),
    [
        ("echo hello", b"hello\n", 0),
        ("(exit 7)", b"", 7),
        ("printf '\\000\\377\\n\\r'; false", b"\x00\xff\n\r", 1),
        ("seq 1 30000 | tail -1; (exit 255)", b"30000\n", 255),
    ],
    ids=["ok", "code", "bytes", "big code"],
)
def test_output_and_exit_code_are_the_commands_own(commands: Commands, command: str, output: bytes, code: int) -> None:
    """Bytes pass as they are, nothing is added, and the code is the command's."""
    done = commands.run("run", "--", command)
    assert (done.stdout, done.stderr, done.returncode) == (output, b"", code)


def test_several_arguments_are_quoted_and_one_is_a_shell_line(commands: Commands) -> None:
    """What a shell split is put together again; a single argument is bash's own to read."""
    assert commands.run("run", "--", "echo", "a  b", "$HOME").stdout == b"a  b $HOME\n"
    assert commands.run("run", "--env", "X=1 2", "--", 'echo "$X"').stdout == b"1 2\n"


def test_a_session_that_is_another_than_asked_for_is_refused(commands: Commands) -> None:
    """What a command names for a new session is never dropped silently where the session exists and differs."""
    commands.run("session", "create", "plain")
    done = commands.run("run", "--session", "plain", "--sandbox", "network=open", "--", "echo never")
    assert (done.returncode, done.stdout) == (125, b""), done
    assert b"its network is none, not open" in done.stderr
    same = commands.run("run", "--session", "plain", "--runtime", "process", "--", "echo ran")
    assert (same.returncode, same.stdout) == (0, b"ran\n")


def test_a_throw_away_session_is_closed(commands: Commands) -> None:
    """A run without a session leaves none open; one with a session keeps its shell."""
    before = open_sessions(commands)
    commands.run("run", "--", "false")
    assert open_sessions(commands) == before
    commands.run("run", "--session", "kept", "--", "cd /; WHO=me")
    assert commands.run("run", "--session", "kept", "--", 'echo "$WHO in $PWD"').stdout == b"me in /\n"
    assert open_sessions(commands) == before | {"kept"}


def test_a_deadline_ends_with_124(commands: Commands) -> None:
    """The deadline is named in one sentence, and what was printed before it is there."""
    done = commands.run("run", "--timeout", "0.5", "--", "echo before; sleep 60")
    assert (done.stdout, done.returncode) == (b"before\n", 124)
    assert done.stderr.startswith(b"chronicled: timeout: ")
    assert done.stderr.count(b"\n") == 1


def test_what_is_not_the_commands_failure_ends_with_125(commands: Commands) -> None:
    """A session that takes no actions is no failure of the command's."""
    commands.run("session", "create", "shut")
    commands.run("session", "close", "shut")
    done = commands.run("run", "--session", "shut", "--", "true")
    assert done.returncode == 125
    assert b"closed" in done.stderr
    assert b"Traceback" not in done.stderr


def test_output_comes_while_the_command_runs(commands: Commands) -> None:
    """The first line is read before the command ends, which waits for that."""
    read = commands.data.parent / "read"
    running = commands.spawn("run", "--", f"echo first; until [ -e {read} ]; do sleep 0.05; done; echo last")
    assert line_of(running.stdout) == b"first\n"
    read.touch()
    assert running.communicate(timeout=END_SECONDS_MAX)[0] == b"last\n"
    assert running.returncode == 0


def test_control_c_interrupts_the_command(commands: Commands) -> None:
    """The command gets SIGINT and ends as it likes; its code is passed on."""
    running = commands.spawn("run", "--", "echo ready; sleep 60")
    assert line_of(running.stdout) == b"ready\n"
    running.send_signal(signal.SIGINT)
    # Less than it would sleep.
    _, errors = running.communicate(timeout=END_SECONDS_MAX)
    assert running.returncode == 130
    assert b"Traceback" not in errors


def test_a_second_control_c_cancels_what_does_not_yield(commands: Commands) -> None:
    """A command that ignores SIGINT is cancelled by the second, and its throw-away session closed."""
    before = open_sessions(commands)
    running = commands.spawn("run", "--", "bash -c 'trap \"\" INT; echo ready; while :; do sleep 0.2; done'")
    assert line_of(running.stdout) == b"ready\n"
    interrupts = len(commands.json_lines("events", "--kind", "interrupt_requested", "--json"))
    running.send_signal(signal.SIGINT)
    end = time.monotonic() + END_SECONDS_MAX
    while len(commands.json_lines("events", "--kind", "interrupt_requested", "--json")) == interrupts:
        assert time.monotonic() < end
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=END_SECONDS_MAX)
    assert running.returncode == 130
    assert open_sessions(commands) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_an_end_from_outside_cancels_and_cleans_up(commands: Commands, number: signal.Signals) -> None:
    """A script that ends `run`, or a terminal that is closed, leaves no command and no session behind."""
    before = open_sessions(commands)
    running = commands.spawn("run", "--", "echo ready; sleep 60")
    assert line_of(running.stdout) == b"ready\n"
    running.send_signal(number)
    running.communicate(timeout=END_SECONDS_MAX)
    assert running.returncode == 130
    assert open_sessions(commands) == before


def test_a_reader_that_goes_away_ends_the_command(commands: Commands) -> None:
    """`chronicled run -- yes | head -1` ends, without a traceback and without a command that runs on."""
    before = open_sessions(commands)
    running = commands.spawn("run", "--", "yes")
    assert line_of(running.stdout) == b"y\n"
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.wait(END_SECONDS_MAX) == 141
    assert b"Traceback" not in running.stderr.read()
    running.stderr.close()
    assert open_sessions(commands) == before


def test_output_that_has_no_room_ends_the_command(commands: Commands) -> None:
    """What cannot be written is told, with our own exit code, and the command does not run on."""
    before = open_sessions(commands)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [BIN, "run", "--", "echo x; sleep 60"],
            env=commands.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=END_SECONDS_MAX,
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1), done
    assert b"No space left" in done.stderr
    assert open_sessions(commands) == before


def test_a_command_that_is_no_text_is_refused(commands: Commands) -> None:
    """Bytes that are not UTF-8 cannot stand in the record; that is said in one line."""
    done = subprocess.run(
        [os.fsencode(BIN), b"run", b"--", b"echo \xff"], env=commands.environment, capture_output=True
    )
    assert done.returncode == 2
    assert b"UTF-8" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_daemon_that_is_killed_and_comes_back_costs_nothing(commands: Commands) -> None:
    """With `kill -9` in the middle, the output is whole, in order, and the exit code the command's own."""
    running = commands.spawn(
        "run", "--session", "crossing", "--", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.25; done; (exit 3)"
    )
    assert line_of(running.stdout) == b"1\n"
    commands.kill()
    commands.start()
    output, errors = running.communicate(timeout=END_SECONDS_MAX)
    assert output == b"2\n3\n4\n5\n6\n7\n8\n"
    assert (running.returncode, errors) == (3, b"")


def test_json_is_one_document(commands: Commands) -> None:
    """With `--json` stdout holds the action and its observation and nothing else."""
    [shown] = commands.json_lines("run", "--json", "--", "echo hello")
    assert shown["observation"]["cause"] == shown["action"]["id"]
    assert shown["observation"]["payload"]["output"] == "hello\n"


def test_standard_input_is_typed_to_the_command(commands: Commands) -> None:
    """With `--stdin` lines and the end of input reach the command, from a pipe and from a file."""
    data = b"one\ntwo\nno newline"
    done = subprocess.run(
        [BIN, "run", "--stdin", "--", "cat"],
        env=commands.environment,
        input=data,
        capture_output=True,
        timeout=END_SECONDS_MAX,
    )
    assert (done.stdout, done.returncode) == (data, 0)
    path = commands.data.parent / "typed"
    path.write_bytes(data)
    with path.open("rb") as file:
        done = subprocess.run(
            [BIN, "run", "--stdin", "--", 'read -r a; read -r b; echo "$b $a"'],
            env=commands.environment,
            stdin=file,
            capture_output=True,
            timeout=END_SECONDS_MAX,
        )
    assert (done.stdout, done.returncode) == (b"two one\n", 0)


def test_a_person_is_told_that_the_command_waits(commands: Commands) -> None:
    """On a terminal a hint on stderr says that the command waits for input, and that is not in its output."""
    master, slave = os.openpty()
    done = subprocess.Popen(
        [BIN, "run", "--stdin", "--", 'read -r a; echo "<$a>"'],
        env=commands.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    hint = b""
    while b"waits for input" not in hint:
        hint += os.read(master, 4096)
    assert done.communicate(b"x\n", timeout=END_SECONDS_MAX)[0] == b"<x>\n"
    os.close(master)
