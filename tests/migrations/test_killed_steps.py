"""A migration that is killed at any named point goes on where it was: nothing twice, nothing left out, nothing lost."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from tests.golden.databases import take_back, write
from tests.migrations.stepper import steps

from chronicled.events.errors import SchemaTooNew
from chronicled.events.faultpoint import MIGRATION_POINTS
from chronicled.storage.backup import backup_path
from chronicled.storage.log_schema import LOG_STEPS
from chronicled.storage.schema import apply_steps, schema_status
from chronicled.storage.segments import COUNTED, SEGMENT_EVENTS
from chronicled.storage.sqlite import LOG_NAME
from chronicled.storage.verification import verify_file

ROOT = Path(__file__).parents[2]
EVENTS = 13_000
SEGMENTS = EVENTS // SEGMENT_EVENTS
RUNS_MAX = 40
ROUNDS = int(os.environ.get("CHRONICLED_MIGRATION_ROUNDS", "2"))
VALUES: dict[str, str | int] = {"incarnation": "i", "time": 1}
# How often a whole run comes by each point, at least.
ARRIVALS = {
    "mid_backup": 10,
    "backup_to_step": 1,
    "step_to_commit": 3,
    "batch_to_commit": SEGMENTS + 8,
    "between_batches": SEGMENTS + 8,
    "between_steps": 3,
}


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a log as a program of step 1 left it."""
    path = tmp_path_factory.mktemp("former") / LOG_NAME
    asyncio.run(write(path, EVENTS))
    take_back(path, 1)
    return path


def step(path: Path, *arguments: str) -> int:
    """Let the steps be taken in a process; return how it ended."""
    command = [sys.executable, "-m", "tests.migrations.stepper", str(path), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode


def digest(path: Path) -> str:
    """Return a digest of every event, as it is stored."""
    found = sha256()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        for row in connection.execute("SELECT * FROM event ORDER BY position"):
            found.update(repr(row).encode())
    return found.hexdigest()


def check_on_the_way(path: Path, former: Path) -> None:
    """Check what must hold after any kill: the copy under its name is whole, and who knows less refuses the rest."""
    copy = backup_path(path, 2)
    if copy.exists():
        assert schema_status(copy).current == 1, "the copy is not of before"
        assert digest(copy) == digest(former), "the copy is not whole"
    try:
        current = schema_status(path, steps()).current
    except SchemaTooNew:
        raise AssertionError("the log is at a step that nobody knows") from None
    if current > 1:
        assert copy.exists(), "a step was taken without a copy"
        with pytest.raises(SchemaTooNew):
            schema_status(path, LOG_STEPS[:1])


def check_at_the_end(path: Path, former: Path) -> None:
    """Check that the log has every event as before, and what the steps add, once."""
    status = schema_status(path, steps())
    assert (status.pending, status.unfinished) == ((), None)
    assert digest(path) == digest(former)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        sizes = connection.execute("SELECT position, bytes FROM payload_size ORDER BY position").fetchall()
        assert sizes == connection.execute("SELECT position, length(payload) FROM event ORDER BY position").fetchall()
        counts = connection.execute("SELECT * FROM segment_label ORDER BY 1, 2, 3").fetchall()
        assert {row[0] for row in counts} == set(range(SEGMENTS))
        wanted = [
            row
            for segment in range(SEGMENTS)
            for row in connection.execute(COUNTED, {"segment": segment, "before": segment * SEGMENT_EVENTS})
        ]
        assert counts == sorted(wanted, key=lambda row: row[:3])
        connection.execute("DROP TABLE payload_size")
        connection.execute("DELETE FROM schema_step WHERE number > ?", (len(LOG_STEPS),))
    assert not verify_file(path).problems


def migrate(path: Path, former: Path, seed: int) -> int:
    """Take all the steps, killed again and again; return how often it was."""
    randomness = random.Random(seed)
    # Each point first, in the order in which a run comes by; then more of them wherever they fall.
    plan = [(point, randomness.randint(1, min(2, most))) for point, most in ARRIVALS.items()]
    kills = 0
    for point, arrival in plan:
        if step(path, point, str(arrival)) == 0:
            return kills
        kills += 1
        check_on_the_way(path, former)
    for _ in range(RUNS_MAX):
        point = randomness.choice(sorted(MIGRATION_POINTS))
        if step(path, point, str(randomness.randint(1, 4))) == 0:
            return kills
        kills += 1
        check_on_the_way(path, former)
    assert step(path) == 0
    return kills


def migrate_broken(path: Path, former: Path, broken: str, point: str) -> None:
    """Take all the steps with a break in the product, killed where it shows."""
    for arrival in (SEGMENTS + 2, SEGMENTS + 3, 2):
        if step(path, point, str(arrival), broken) == 0:
            break
        check_on_the_way(path, former)
    assert step(path, "mid_backup", "1000000", broken) == 0
    check_at_the_end(path, former)


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_migration_killed_again_and_again_ends_as_if_it_had_not_been(former: Path, tmp_path: Path, seed: int) -> None:
    """Killed at named points in the copy, in steps, in batches and between, each run goes on where the last one was."""
    path = tmp_path / LOG_NAME
    shutil.copyfile(former, path)
    kills = migrate(path, former, seed)
    assert kills >= len(ARRIVALS) - 1
    check_at_the_end(path, former)
    assert [each.name for each in tmp_path.glob("*.part")] == []


@pytest.mark.parametrize("point", sorted(MIGRATION_POINTS))
def test_each_point_is_met_and_survived(former: Path, tmp_path: Path, point: str) -> None:
    """The first and the last arrival at each point kill the run; the next one finishes it."""
    for arrival in sorted({1, ARRIVALS[point]}):
        path = tmp_path / str(arrival) / LOG_NAME
        path.parent.mkdir()
        shutil.copyfile(former, path)
        assert step(path, point, str(arrival)) != 0, "the point was not met"
        check_on_the_way(path, former)
        assert step(path) == 0
        check_at_the_end(path, former)


@pytest.mark.parametrize(("broken", "point"), [("no-cursor", "batch_to_commit"), ("no-part", "mid_backup")])
def test_a_broken_migration_is_caught(former: Path, tmp_path: Path, broken: str, point: str) -> None:
    """Negative control: a batch durable before its cursor, or a copy named before it is whole, fails these checks."""
    path = tmp_path / LOG_NAME
    shutil.copyfile(former, path)
    with pytest.raises(AssertionError):
        migrate_broken(path, former, broken, point)


def test_what_a_newer_program_began_is_refused_by_this_one(former: Path, tmp_path: Path) -> None:
    """A step that is begun and not done keeps out programs that do not know it, and readers until it is done."""
    path = tmp_path / LOG_NAME
    shutil.copyfile(former, path)
    assert step(path, "between_batches", str(SEGMENTS + 4)) != 0
    assert schema_status(path, steps()).unfinished == "sizes"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, pytest.raises(SchemaTooNew):
        apply_steps(connection, path, 2, VALUES)
    assert step(path) == 0
    check_at_the_end(path, former)
