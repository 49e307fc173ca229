"""`chronicled migrate export` beside a running daemon: live sessions, secrets, large outputs, files, exit codes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.conftest import BIN, Commands, Done

from chronicled.migrations.formats.choice import FORMATS

VALUE = "hunter2-correct-horse"
SHAPES = (VALUE.encode(), base64.b64encode(VALUE.encode()), VALUE.encode().hex().encode(), VALUE.upper().encode())


def export(commands: Commands, session: str, *more: str | Path, format: str = "jsonl") -> Done:
    """Export a session of the running daemon's data directory."""
    return commands.run("migrate", "export", session, "--format", format, "--data", commands.data, *more)


def ran(commands: Commands, session: str, command: str) -> None:
    """Run a command in a session of that name, made if it is missing."""
    done = commands.run("run", "--session", session, "--", command)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("format", FORMATS)
def test_a_session_is_exported_beside_its_daemon(commands: Commands, format: str) -> None:
    """Every format comes from a log that a daemon writes to; the summary is JSON on standard error, and right."""
    session = f"plain-{format}"
    assert commands.run("session", "create", session).returncode == 0
    ran(commands, session, "echo héllo; seq 3")
    done = export(commands, session, "--json", format=format)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stderr)
    assert (summary["format"], summary["session"], summary["running"]) == (format, session, 0)
    assert summary["written"] > 0
    assert "héllo" in done.stdout.decode()


def test_a_running_action_is_said_to_run(commands: Commands) -> None:
    """A live session is exported as it stands at one position: what has not ended has no end in any format."""
    assert commands.run("session", "create", "live").returncode == 0
    ran(commands, "live", "true")
    payload = json.dumps({"command": "echo begun; sleep 30"})
    action = commands.run("submit", "--session", "live", "run", payload)
    assert action.returncode == 0, action.stderr
    id = action.stdout.decode().strip()
    for format in ("openhands", "atif", "asciicast"):
        done = export(commands, "live", "--json", format=format)
        assert json.loads(done.stderr)["running"] == 1
        assert b"echo begun" in done.stdout
    assert commands.run("cancel", "--session", "live", id).returncode == 0
    end = time.monotonic() + 20
    while json.loads(export(commands, "live", "--json", format="atif").stderr)["running"]:
        assert time.monotonic() < end


@pytest.mark.parametrize("format", FORMATS)
def test_a_secret_that_was_registered_later_does_not_leave(commands: Commands, format: str) -> None:
    """What the log still shows in clear is replaced on its way out, in payloads and in blobs, and counted."""
    session = f"secret-{format}"
    assert commands.run("session", "create", session).returncode == 0
    ran(commands, session, f"echo {VALUE}; echo {VALUE} | base64; yes {VALUE} | head -n 20000")
    # Negative control: until it is registered it is there.
    more = ("--variant", "with-blobs") if format == "jsonl" else ()
    assert VALUE.encode() in export(commands, session, *more, format=format).stdout
    put = commands.run("secret", "put", session, "TOKEN", "--file", "-", typed=VALUE.encode())
    assert put.returncode == 0, put.stderr
    done = export(commands, session, "--json", *more, format=format)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    for line in text.split(b"\n") if format == "jsonl" else ():
        if line and json.loads(line)["type"] == "blob":
            text += base64.b64decode(json.loads(line)["data"])
    assert not [shape for shape in SHAPES if shape in text]
    assert json.loads(done.stderr)["redacted"] > 0
    assert b"<secret:TOKEN>" in text


def test_a_session_whose_secrets_are_gone_is_refused(commands: Commands) -> None:
    """Without the values nothing can be replaced, so that nothing is exported."""
    assert commands.run("session", "create", "keyless").returncode == 0
    assert commands.run("secret", "put", "keyless", "TOKEN", "--file", "-", typed=VALUE.encode()).returncode == 0
    record = commands.data / "secrets" / "default" / "keyless" / "record"
    kept = record.read_bytes()
    record.unlink()
    done = export(commands, "keyless")
    record.write_bytes(kept)
    assert (done.returncode, done.stdout) == (4, b"")
    assert b"secrets" in done.stderr
    assert export(commands, "keyless").returncode == 0


def test_a_file_is_whole_or_not_there(commands: Commands, tmp_path: Path) -> None:
    """The file is the same as the output, private, and replaced in one step; a failure leaves what was there."""
    assert commands.run("session", "create", "file").returncode == 0
    ran(commands, "file", "seq 100")
    target = tmp_path / "out.jsonl"
    target.write_text("before")
    assert export(commands, "nobody", "--output", target).returncode == 4
    assert target.read_text() == "before"
    done = export(commands, "file", "--output", target)
    assert (done.returncode, done.stdout) == (0, b"")
    assert target.read_bytes() == export(commands, "file").stdout
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["out.jsonl"]
    assert export(commands, "file", "--output", tmp_path).returncode == 4
    assert export(commands, "file", "--output", tmp_path / "no" / "where").returncode == 4


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("file", "--format", "jsonl", "--after", "-1"), 2),
        (("file", "--format", "jsonl", "--variant", "v9"), 2),
        (("file", "--format", "parquet"), 2),
        (("no/name", "--format", "jsonl"), 2),
        (("file", "--format", "jsonl", "--after", "99999999"), 2),
        (("file", "--format", "jsonl", "--tenant", "other"), 4),
        (("file", "--format", "jsonl", "--unit", "no_such_unit"), 4),
    ],
)
def test_what_is_wrong_is_told_by_the_exit_code(commands: Commands, arguments: tuple[str, ...], code: int) -> None:
    """2 for what was typed, 4 for what is refused; nothing is printed on standard output."""
    commands.run("session", "create", "file")
    done = commands.run("migrate", "export", *arguments, "--data", commands.data)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr


def test_a_reader_that_goes_away_is_no_crash(commands: Commands) -> None:
    """`| head` ends the export as a shell expects it, without a stack."""
    assert commands.run("session", "create", "pipe").returncode == 0
    ran(commands, "pipe", "seq 200000 >/dev/null; seq 100000")
    line = f"{BIN} migrate export pipe --format jsonl --variant with-blobs --data {commands.data} | head -c 100"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, timeout=30, env=commands.environment
    )
    assert done.returncode in {0, 141}
    assert b"Traceback" not in done.stderr


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("format", [*FORMATS, "with-blobs"])
def test_a_large_output_is_exported_in_bounded_memory(commands: Commands, format: str) -> None:
    """150 MB of output cost no more memory than a page of events and a chunk of a blob."""
    if commands.run("session", "show", "large").returncode:
        assert commands.run("session", "create", "large").returncode == 0
        ran(commands, "large", "yes 0123456789abcdef0123456789abcdef | head -c 150000000 >&2; exit 0")
    chosen = ("jsonl", "--variant", "with-blobs") if format == "with-blobs" else (format,)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            MEASURE,
            BIN,
            "migrate",
            "export",
            "large",
            "--data",
            commands.data,
            "--format",
            *chosen,
        ],
        capture_output=True,
        timeout=100,
        env=commands.environment,
        check=True,
    )
    code, kilobytes = map(int, done.stdout.split())
    assert code == 0, done.stderr
    assert kilobytes < 150_000, f"{kilobytes} kB"


def test_an_export_is_the_same_whenever_it_is_made(commands: Commands) -> None:
    """Nothing in it depends on when or how often it is exported, but for the head of the log."""
    assert commands.run("session", "create", "same").returncode == 0
    ran(commands, "same", "seq 10")
    for format in ("cloudevents", "openhands", "asciicast"):
        digests = {hashlib.sha256(export(commands, "same", format=format).stdout).hexdigest() for _ in range(2)}
        assert len(digests) == 1


@pytest.mark.parametrize(
    "more", [["--lane", "main"], ["--idle-limit", "2"], ["--format", "asciicast", "--idle-limit", "-1"]], ids=" ".join
)
def test_what_a_format_cannot_be_given_is_refused(commands: Commands, more: list[str]) -> None:
    """An option that would be passed over is a usage error, and nothing is written."""
    commands.run("session", "create", "options")
    done = export(commands, "options", *more)
    assert (done.returncode, done.stdout) == (2, b"")
    assert more[-2].encode() in done.stderr
