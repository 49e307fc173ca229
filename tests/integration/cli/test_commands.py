"""The other commands: what they print, with which exit code, and that a mistake is one clear sentence."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.cli.conftest import BIN, END_SECONDS_MAX, Commands, line_of

from chronicled.cli.connection import STARTING_SECONDS

NO_DAEMON = [
    ["session", "ls"],
    ["session", "create", "x"],
    ["run", "--", "true"],
    ["submit", "--session", "x", "run", '{"command": "true"}'],
    ["cancel", "--session", "x", "01890000-0000-7000-8000-000000000000"],
    ["events"],
]
USAGE = [
    [],
    ["nonsense"],
    ["session"],
    ["run"],
    ["session", "create", "a/b"],
    ["session", "create", "--label", "novalue"],
    ["submit", "--session", "x", "run", "{"],
    ["submit", "--session", "x", "run", "[]"],
    ["events", "--after", "-3"],
    ["session", "ls", "--socket", "ftp://x"],
    ["session", "ls", "--socket", "http://"],
    ["session", "ls", "--socket", "unix:"],
    ["session", "create", "--life", "nan"],
    ["run", "--timeout", "inf", "--", "true"],
    ["run", "--sandbox", "nonsense=1", "--", "true"],
    ["audit"],
    ["audit", "verify", "--data", "/nonexistent"],
    ["serve", "--set", "data.nonsense=1"],
    ["serve", "--set", "nonsense"],
    ["serve", "--config", "/nonexistent"],
]


@pytest.mark.parametrize("arguments", NO_DAEMON, ids=" ".join)
def test_without_a_daemon_the_exit_code_is_3(commands: Commands, tmp_path: Path, arguments: list[str]) -> None:
    """One sentence says where nobody answered and what to do, once a daemon that starts would have been there."""
    begin = time.monotonic()
    done = commands.run(*arguments, environment={"CHRONICLED_SOCKET": str(tmp_path / "none")})
    assert time.monotonic() - begin >= STARTING_SECONDS
    assert done.returncode == 3
    assert done.stdout == b""
    assert b"chronicled serve" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("arguments", USAGE, ids=" ".join)
def test_a_mistake_ends_with_2(commands: Commands, arguments: list[str]) -> None:
    """What was typed wrong is said on stderr, without a traceback, and nothing else happens."""
    done = commands.run(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == b""
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_a_refusal_ends_with_4(commands: Commands) -> None:
    """What does not exist, exists already, or is closed."""
    commands.run("session", "create", "once")
    commands.run("session", "close", "once")
    refused = [
        ["session", "create", "once"],
        ["session", "show", "nobody"],
        ["events", "--session", "nobody"],
        ["submit", "--session", "once", "run", '{"command": "true"}'],
        ["cancel", "--session", "once", "01890000-0000-7000-8000-000000000000"],
        ["serve", "--data", str(commands.data), "--socket", str(commands.data / "other")],
    ]
    for arguments in refused:
        done = commands.run(*arguments)
        assert (done.returncode, done.stdout) == (4, b""), (arguments, done)
        assert b"Traceback" not in done.stderr


def test_the_life_of_a_session(commands: Commands) -> None:
    """Create, list, show, close; closing again changes nothing."""
    assert commands.run("session", "create", "life", "--label", "team=a").stdout == b"life\n"
    shown = commands.json_lines("session", "show", "life", "--json")[0]
    assert (shown["status"], shown["labels"], shown["isolated"]) == ("open", {"team": "a"}, False)
    assert b"life" in commands.run("session", "ls").stdout
    assert b"team" in commands.run("session", "show", "life").stdout
    for _ in range(2):
        assert commands.run("session", "close", "life").returncode == 0
    assert commands.json_lines("session", "show", "life", "--json")[0]["status"] == "closed"


def test_any_action_can_be_submitted(commands: Commands, tmp_path: Path) -> None:
    """With `--wait` the exit code is 0 for ok, 1 for failed, 124 for a deadline; the same id is the same action."""
    commands.run("session", "create", "any")
    target = tmp_path / "file"
    submit = ["submit", "--session", "any"]
    payload = json.dumps({"path": str(target), "content": "x"})
    assert commands.run(*submit, "--wait", "write", payload).returncode == 0
    assert target.read_text() == "x"
    assert commands.run(*submit, "--wait", "run", '{"command": "exit 9"}').returncode == 1
    late = '{"command": "sleep 60", "timeout_seconds": 0.3}'
    assert commands.run(*submit, "--wait", "run", late).returncode == 124
    id = "01890000-0000-7000-8000-00000000abcd"
    again = [commands.json_lines(*submit, "--id", id, "--json", "message", '{"content": "hi"}') for _ in range(2)]
    assert again[0] == again[1]
    assert again[0][0]["id"] == id
    assert commands.run(*submit, "--wait", "message", '{"content": "hi"}').returncode == 0
    assert commands.run(*submit, "--id", id, "message", '{"content": "other"}').returncode == 4


def test_an_output_is_had_again(commands: Commands) -> None:
    """What was submitted and left alone can be looked at: its bytes, as they come, and then its end as `run` has it."""
    commands.run("session", "create", "again")
    submitted = commands.json_lines("submit", "--session", "again", "--json", "run", '{"command": "read a; (exit 7)"}')
    id = submitted[0]["id"]
    late = {"command": "echo begun; read a; echo $a; (exit 3)"}
    other = commands.json_lines("submit", "--session", "again", "--lane", "b", "--json", "run", json.dumps(late))
    with commands.spawn("output", "--session", "again", other[0]["id"]) as watching:
        assert line_of(watching.stdout) == b"begun\n"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(END_SECONDS_MAX) == 130
    with commands.spawn("output", "--session", "again", id) as following:
        for each in (submitted, other):
            commands.run("cancel", "--session", "again", each[0]["id"])
        assert following.wait(END_SECONDS_MAX) == 130
    ended = commands.run("output", "--session", "again", other[0]["id"])
    assert (ended.returncode, ended.stdout) == (130, b"begun\n")
    read = commands.json_lines("submit", "--session", "again", "--json", "read", '{"path": "none"}')[0]["id"]
    done = commands.run("output", "--session", "again", read)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"No such file" in done.stderr
    said = commands.json_lines("submit", "--session", "again", "--json", "message", '{"content": "x"}')[0]["id"]
    assert commands.run("output", "--session", "again", said).returncode == 2


def test_several_sessions_are_closed_at_once(commands: Commands) -> None:
    """Each that can be is closed; one that cannot is named, and decides the exit code."""
    for name in ("one", "two"):
        commands.run("session", "create", name)
    done = commands.run("session", "close", "one", "nobody", "two")
    assert (done.returncode, b"nobody" in done.stderr) == (4, True), done
    for name in ("one", "two"):
        assert commands.json_lines("session", "show", name, "--json")[0]["status"] == "closed"


def test_sessions_are_listed_and_kept_alive(commands: Commands) -> None:
    """`ls --open` leaves out what is closed; `keep-alive` stands in the record, and a closed session refuses it."""
    for name in ("kept", "left"):
        commands.run("session", "create", name)
    commands.run("session", "close", "left")
    listed = [each["session"] for each in commands.json_lines("session", "ls", "--open", "--json")]
    assert "kept" in listed
    assert "left" not in listed
    assert commands.run("session", "keep-alive", "kept").returncode == 0
    kinds = [each["kind"] for each in commands.json_lines("events", "--session", "kept", "--json")]
    assert "session_kept_alive" in kinds
    assert commands.run("session", "keep-alive", "left").returncode == 4


def test_a_cancel_ends_the_action(commands: Commands) -> None:
    """It waits for the end and says which one it was."""
    commands.run("session", "create", "stop")
    id = commands.run("submit", "--session", "stop", "run", '{"command": "sleep 60"}').stdout.decode().strip()
    done = commands.run("cancel", "--session", "stop", "--reason", "enough", id)
    assert (done.stdout, done.returncode) == (b"cancelled\n", 0)
    assert commands.run("cancel", "--session", "stop", id).returncode == 4


def test_events_are_printed_for_people_and_as_json(commands: Commands) -> None:
    """By session, kind and cursor; a control character in a payload does not reach the terminal."""
    commands.run("session", "create", "told")
    for text in ("one", "two", "\x1b[31mred"):
        commands.run("submit", "--session", "told", "message", json.dumps({"content": text}))
    events = commands.json_lines("events", "--session", "told", "--kind", "message", "--json")
    assert [event["payload"]["content"] for event in events] == ["one", "two", "\x1b[31mred"]
    after = str(events[0]["position"])
    assert len(commands.json_lines("events", "--session", "told", "--after", after, "--kind", "message", "--json")) == 2
    shown = commands.run("events", "--session", "told").stdout.decode()
    assert "session_created" in shown
    assert "\x1b" not in shown
    assert commands.run("events").stdout.count(b"\n") > len(shown.splitlines())


def test_events_are_followed_through_a_restart_of_the_daemon(commands: Commands) -> None:
    """`--follow` shows what comes, goes on when the daemon has been killed and is back, and ends with Ctrl-C."""
    commands.run("session", "create", "live")
    following = commands.spawn("events", "--session", "live", "--kind", "message", "--follow", "--json")

    def say(text: str) -> None:
        commands.run("submit", "--session", "live", "message", json.dumps({"content": text}))
        assert json.loads(line_of(following.stdout))["payload"]["content"] == text

    say("before")
    commands.kill()
    commands.start()
    say("after")
    following.send_signal(2)
    _, errors = following.communicate(timeout=END_SECONDS_MAX)
    assert (following.returncode, errors) == (130, b"")


def test_a_reader_that_has_enough_is_no_error(commands: Commands) -> None:
    """`chronicled events | head -1` ends quietly."""
    printing = commands.spawn("events", "--follow")
    assert line_of(printing.stdout)
    assert printing.stdout is not None
    assert printing.stderr is not None
    printing.stdout.close()
    commands.run("session", "create", "noise")
    commands.run("submit", "--session", "noise", "message", '{"content": "x"}')
    assert printing.wait(END_SECONDS_MAX) == 141
    assert printing.stderr.read() == b""
    printing.stderr.close()


def test_a_log_verifies_beside_its_daemon_and_a_changed_byte_is_found(commands: Commands, tmp_path: Path) -> None:
    """Exit code 0 and the root; 1 and the first bad position, once a stored payload has been changed."""
    done = commands.run("audit", "verify", "--data", commands.data)
    assert done.returncode == 0, done
    assert b"root " in done.stdout
    [report] = commands.json_lines("audit", "verify", "--data", str(commands.data), "--json")
    assert report["problems"] == []
    copy = tmp_path / "copy"
    copy.mkdir()
    with sqlite3.connect(commands.data / "log.sqlite") as source, sqlite3.connect(copy / "log.sqlite") as target:
        source.backup(target)
        for (trigger,) in target.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            target.execute(f"DROP TRIGGER {trigger}")
        target.execute("UPDATE event SET payload = CAST(replace(payload, 'e', 'f') AS BLOB) WHERE position = 3")
    source.close()
    target.close()
    done = commands.run("audit", "verify", "--data", copy)
    assert done.returncode == 1
    assert b"3" in done.stdout.splitlines()[0]
    assert b"does not verify" in done.stderr
    shutil.rmtree(copy)
    copy.mkdir()
    (copy / "log.sqlite").write_bytes(b"garbage" * 1000)
    assert commands.run("audit", "verify", "--data", copy).returncode == 1


def test_migrate_status_tells_versions(commands: Commands) -> None:
    """Schema step and every kind with its version; nothing is unreadable."""
    done = commands.run("migrate", "status", "--data", commands.data)
    assert done.returncode == 0
    assert b"session_created" in done.stdout
    assert commands.json_lines("migrate", "status", "--data", str(commands.data), "--json")[0]["unreadable"] == 0


def test_doctor_tells_whether_the_machine_is_fit(commands: Commands) -> None:
    """Each check has a verdict; the running daemon is found, the missing isolation told."""
    findings = {each["check"]: each for each in commands.json_lines("doctor", "--data", str(commands.data), "--json")}
    assert findings["daemon"]["verdict"] == "ok"
    assert "not isolate" in findings["isolation"]["found"]
    assert {"python", "sqlite", "disk sync", "disk space", "bash", "limits"} <= findings.keys()


def test_version_is_told_without_the_daemons_libraries(commands: Commands) -> None:
    """Commands that talk to nobody import neither HTTP nor database."""
    assert commands.run("version").stdout.startswith(b"chronicled 0")
    assert commands.run("--version").stdout == commands.run("version").stdout
    code = (
        "import sys; from chronicled.cli import main; main(['version']); print({'aiohttp', 'sqlite3'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "set()"


def test_color_is_for_terminals_only(commands: Commands) -> None:
    """On a terminal events have color, unless NO_COLOR is set; in a pipe never."""
    colored = in_terminal(commands, {})
    assert "\x1b[" in colored
    assert "\x1b[" not in in_terminal(commands, {"NO_COLOR": "1"})
    assert b"\x1b[" not in commands.run("events").stdout


def in_terminal(commands: Commands, environment: dict[str, str]) -> str:
    """Return what `events` prints on a terminal."""
    main, other = pty.openpty()
    running = subprocess.Popen(
        [BIN, "events"], env={**commands.environment, **environment}, stdin=other, stdout=other, stderr=other
    )
    os.close(other)
    found = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        found += data
    os.close(main)
    assert running.wait(END_SECONDS_MAX) == 0
    return found.decode()
