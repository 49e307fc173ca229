"""A daemon on what other versions left: brought on and told, or refused by name with nothing changed."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.golden.databases import golden_databases, unpack
from tests.integration.daemon.conftest import Launch

from chronicled.storage.connection import open_writer
from chronicled.storage.log_schema import LOG_STEPS, Step
from chronicled.storage.schema import apply_steps, schema_status

BIN = Path(sys.executable).parent / "chronicled"
IDENTITY = b'{"instance":"01900000-0000-7000-8000-000000000000","request_key":"' + b"A" * 43 + b'="}'


def chronicled(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [BIN, *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """Give the data directory `d/data`, as a program of step 1 left it."""
    data = tmp_path / "d" / "data"
    data.mkdir(parents=True, mode=0o700)
    unpack(golden_databases()[0], data / "log.sqlite")
    (data / "instance.json").write_bytes(IDENTITY)
    (data / "instance.json").chmod(0o600)
    return data


async def test_a_start_brings_an_old_log_on_and_says_so(launch: Launch, former: Path, tmp_path: Path) -> None:
    """The daemon tells how the migration goes, to systemd as well, and serves the same events."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.setblocking(False)
    with pytest.MonkeyPatch.context() as patch, told:
        patch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = await launch(name="d")
        messages: list[str] = []
        while not any("READY=1" in each for each in messages):
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(told, 4096), 10)
            messages.append(data.decode())
    text = daemon.log_text()
    assert "migrating the log" in text
    assert "copying the log to" in text
    assert any("EXTEND_TIMEOUT_USEC=" in each and "STATUS=copying" in each for each in messages)
    assert schema_status(former / "log.sqlite").current == len(LOG_STEPS)
    assert (former / "log.sqlite.before-step-2").exists()
    events = await daemon.events()
    assert [event["position"] for event in events[:8301]] == list(range(1, 8302))
    assert events[8300]["kind"] == "daemon_started"
    assert len(await daemon.events(query="kind=session_created")) == 7


@pytest.mark.parametrize("what", ["log", "store"])
def test_a_newer_directory_is_refused_by_name(former: Path, tmp_path: Path, what: str) -> None:
    """A log or a store of a newer version ends the start with exit code 4, and nothing is written."""
    path = former / "log.sqlite"
    if what == "log":
        connection = open_writer(path)
        newer = Step(len(LOG_STEPS) + 1, "from tomorrow", ("CREATE TABLE tomorrow (x INTEGER) STRICT",))
        apply_steps(connection, path, 2, {"incarnation": "i", "time": 1}, (*LOG_STEPS, newer))
        connection.close()
    else:
        (former / "formats.json").write_text('{"formats":{"spool":7}}')
    before = path.read_bytes()
    done = chronicled("serve", "--data", former, "--socket", tmp_path / "s")
    assert done.returncode == 4, done.stderr
    assert re.search(r"schema step \d|'spool'.*format 7", done.stderr), done.stderr
    assert path.read_bytes() == before
    assert not (former / "projections.sqlite").exists()


async def test_up_does_it_by_hand_and_status_shows_it(launch: Launch, former: Path, tmp_path: Path) -> None:
    """A dry run changes nothing; `up` puts the copy where it is wanted; a daemon that runs there is a refusal."""
    path = former / "log.sqlite"
    before = path.read_bytes()
    dry = chronicled("migrate", "up", "--dry-run", "--data", former)
    assert (dry.returncode, "would be applied: log: " in dry.stdout) == (0, True), dry
    assert path.read_bytes() == before
    status = chronicled("migrate", "status", "--data", former)
    assert "step 1 of 2" in status.stdout
    (tmp_path / "copies").mkdir()
    done = chronicled("migrate", "up", "--data", former, "--backup-to", tmp_path / "copies", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backup"] == str(tmp_path / "copies" / "log.sqlite.before-step-2")
    assert (tmp_path / "copies" / "log.sqlite.before-step-2").read_bytes()[:15] == b"SQLite format 3"
    assert "nothing to do" in chronicled("migrate", "up", "--data", former).stdout
    await launch(name="d")
    busy = chronicled("migrate", "up", "--data", former)
    assert (busy.returncode, "Another daemon" in busy.stderr) == (4, True)
