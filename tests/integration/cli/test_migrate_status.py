"""`migrate status`, `migrate lock` and `events --data`: what a log holds, and what of it this program can read."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.golden.logs import NEXT
from tests.integration.cli.conftest import BIN, END_SECONDS_MAX

from chronicled.events import Append
from chronicled.events.envelope import Draft
from chronicled.storage.connection import open_writer
from chronicled.storage.log_schema import LOG_STEPS, Step
from chronicled.storage.schema import apply_steps
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

UNIT = """
from chronicled.events import Payload, action
from chronicled.migrations.chain import Upcaster
from chronicled.migrations.fields import Fields
from chronicled.migrations.unit import Unit

class Note(Payload, frozen=True, kw_only=True):
    text: str
"""


def chronicled(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line, with a folder of packages on its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
    return subprocess.run(
        [BIN, *arguments],
        env=environment | ({"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} if path else {}),
        capture_output=True,
        text=True,
        timeout=END_SECONDS_MAX,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data directory whose log holds old, broken, foreign and newer events."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    async with await SqliteStore.open(directory / LOG_NAME) as store:
        drafts = [
            _draft(1, "session_created", 1, b'{"runtime":"process"}', "lifecycle"),
            _draft(2, "run", 1, b'{"command":"true"}', "action"),
            _draft(3, "run", 1, b'{"command":7}', "action"),
            _draft(4, "run", 2, b'{"command":', "action"),
            _draft(5, "run", 9, b"{}", "action"),
            *(_draft(n, "acme.lost", 1, b"{}", "action") for n in range(6, 11)),
        ]
        await store.append(Append((drafts[0],), create=True))
        await store.append(Append(tuple(drafts[1:])))
    return directory


def _draft(number: int, kind: str, version: int, payload: bytes, category: Any) -> Draft:
    id = f"01900000-0000-7000-8000-{number:012d}"
    return Draft("default", "s", id, kind, version, category, payload, source="worker")


def test_status_lists_what_cannot_be_read(data: Path) -> None:
    """By kind, version and reason, with the first positions; deep finds broken payloads too; exit code 1."""
    shallow = chronicled("migrate", "status", "--data", data, "--json")
    assert shallow.returncode == 1, shallow.stderr
    found = {(row["kind"], row["version"], row["why"]): row for row in json.loads(shallow.stdout)["opaque"]}
    assert found["acme.lost", 1, "unknown_kind"]["events"] == 5
    assert found["acme.lost", 1, "unknown_kind"]["positions"] == [6, 7, 8]
    assert found["run", 9, "newer_version"]["positions"] == [5]
    assert len(found) == 2
    deep = json.loads(chronicled("migrate", "status", "--data", data, "--json", "--deep").stdout)
    found = {(row["kind"], row["version"], row["why"]): row for row in deep["opaque"]}
    assert found["run", 1, "misfit"]["positions"] == [3]
    assert found["run", 2, "not_json"]["positions"] == [4]
    assert deep["unreadable"] == 8
    shown = chronicled("migrate", "status", "--data", data, "--deep").stdout
    assert "acme.lost" in shown
    assert "6, 7, 8, ..." in shown
    assert "migrated to 2 on reading" in shown


def test_status_of_a_whole_log_says_so(tmp_path: Path) -> None:
    """Nothing unreadable: exit code 0."""
    shutil.copyfile(NEXT, tmp_path / LOG_NAME)
    done = chronicled("migrate", "status", "--data", tmp_path, "--deep")
    assert done.returncode == 0, done.stdout
    assert "every payload can be read" in done.stdout


def test_events_are_read_from_a_directory(data: Path) -> None:
    """As a daemon would show them: migrated, opaque where they must be, in the versions that are asked for."""
    events = lines("--data", data, "--session", "s")
    assert [event["position"] for event in events] == list(range(1, 11))
    assert events[1]["stored"] == {"kind": "run", "version": 1}
    assert [event["position"] for event in events if "opaque" in event] == [3, 4, 5, 6, 7, 8, 9, 10]
    (run, *_) = lines("--data", data, "--kind", "run", "--as", "run=1")
    assert (run["version"], "stored" in run) == (1, False)
    assert lines("--data", data, "--as", "stored", "--after", "1")[0]["version"] == 1
    assert chronicled("events", "--data", data, "--session", "nobody").returncode == 4
    assert chronicled("events", "--data", data, "--follow").returncode == 2
    assert chronicled("events", "--data", data, "--as", "run").returncode == 2


def lines(*arguments: str | Path) -> list[dict[str, Any]]:
    """Return what `events` prints."""
    done = chronicled("events", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_log_of_a_newer_schema_is_read_and_never_written(data: Path, tmp_path: Path) -> None:
    """Events and status show what they can and say what it is; a daemon refuses it by name; not a byte changes."""
    path = data / LOG_NAME
    connection = open_writer(path)
    newer = Step(len(LOG_STEPS) + 1, "from tomorrow", ("ALTER TABLE event ADD COLUMN tomorrow INTEGER",))
    apply_steps(connection, path, 2, {"incarnation": "i", "time": 1}, (*LOG_STEPS, newer))
    connection.close()
    before = path.read_bytes()
    done = chronicled("events", "--data", data, "--kind", "run", "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert f"schema step {len(LOG_STEPS) + 1}" in done.stderr
    status = json.loads(chronicled("migrate", "status", "--data", data, "--json").stdout)
    assert status["schema"]["current"] == len(LOG_STEPS) + 1
    assert status["unreadable"] == 6
    assert chronicled("serve", "--data", data, "--socket", tmp_path / "s").returncode == 4
    assert path.read_bytes() == before


def test_what_cannot_be_read_at_all_is_said(data: Path) -> None:
    """A newer schema that has nothing left of what this program knows is refused by name."""
    path = data / LOG_NAME
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO schema_step VALUES (99, 'from tomorrow', 1)")
        connection.execute("ALTER TABLE event RENAME TO chronicle")
    connection.close()
    done = chronicled("events", "--data", data)
    assert done.returncode == 4
    assert "99" in done.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A folder with the package of a unit."""
    package = tmp_path / "packages" / "acme_note"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        UNIT + 'UNIT = Unit(name="acme", package="acme_note", kinds=(action("acme.note", Note),))\n'
    )
    return package


def test_the_lock_notices_a_schema_that_changed(unit: Path) -> None:
    """Locked, then changed without a version: the check fails and the lock is not overwritten; with both it is fine."""
    name, path = "acme_note:UNIT", unit.parent

    def lock(*more: str) -> subprocess.CompletedProcess[str]:
        return chronicled("migrate", "lock", "--unit", name, *more, path=path)

    assert lock("--check").returncode == 1, "not locked yet"
    assert not (unit / "schema.lock").exists()
    assert lock().returncode == 0
    assert lock("--check").returncode == 0
    written = (unit / "schema.lock").read_text()
    assert written.startswith("action acme.note 1 ")

    changed = UNIT.replace("text: str", "text: str\n    loud: bool = False")
    (unit / "__init__.py").write_text(
        changed + 'UNIT = Unit(name="acme", package="acme_note", kinds=(action("acme.note", Note),))\n'
    )
    checked = lock("--check")
    assert checked.returncode == 1
    assert "acme.note 1: its schema has changed" in checked.stdout
    assert lock().returncode == 4
    assert (unit / "schema.lock").read_text() == written

    second = UNIT + "class Loud(Note, frozen=True, kw_only=True):\n    loud: bool = False\n\n"
    kinds = 'kinds=(action("acme.note", Note), action("acme.note", Loud, version=2))'
    (unit / "__init__.py").write_text(second + f'UNIT = Unit(name="acme", package="acme_note", {kinds})\n')
    missing = lock()
    assert missing.returncode != 0, "a version without an upcaster"
    assert "no upcaster from version 1" in missing.stderr
    steps = 'upcasters=(Upcaster("action", "acme.note", 1, Fields()),)'
    (unit / "__init__.py").write_text(second + f'UNIT = Unit(name="acme", package="acme_note", {kinds}, {steps})\n')
    assert lock().returncode == 0
    assert (unit / "schema.lock").read_text().startswith(written)
    assert lock("--check").returncode == 0


def test_our_own_lock_holds() -> None:
    """What CI asks of a change to our kinds."""
    done = chronicled("migrate", "lock", "--check", "--json")
    assert done.returncode == 0, done.stdout
    (row,) = json.loads(done.stdout)
    assert row["problems"] == []
