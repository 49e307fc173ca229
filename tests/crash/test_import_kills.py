"""An import that is killed, anywhere and often, and run again: no event twice, none missing, the same log."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imports.conversations import pairs, run, write_files

from chronicled.events.faultpoint import IMPORT_POINTS
from chronicled.storage.imports.chunk import CHUNK_RECORDS_MAX
from chronicled.storage.verification import verify_file

pytestmark = pytest.mark.crash

RECORDS = 5 * CHUNK_RECORDS_MAX + 220
CYCLES = int(os.environ.get("CHRONICLED_IMPORT_KILLS", "12"))
SECONDS_MAX = 60
TORN = """
import sys
from chronicled.events import faultpoint
from chronicled.events.store import Append
from chronicled.storage.imports import importer

async def write(self, chunk, opening):
    await self._store.append(Append((*opening, *chunk.drafts[:-1]), create=bool(opening)))
    faultpoint.reached("import_to_next")
    await self._store.append(Append(chunk.drafts[-1:]))

importer._Pipeline.write = write
from chronicled.cli import main
sys.exit(main())
"""
"""An importer whose events and mark of how far it is are two commits."""

Rows = list[tuple[Any, ...]]


def begin(source: Path, data: Path, point: str | None = None, program: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """Start an import."""
    environment = {**os.environ, **({"CHRONICLED_FAULT_POINT": point} if point else {})}
    arguments = [sys.executable, *(program or ("-m", "chronicled.cli")), "migrate", "import", str(source)]
    return subprocess.Popen(
        [*arguments, "--data", str(data)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def end(process: subprocess.Popen[bytes]) -> int:
    """Wait for an import and return its exit code."""
    process.communicate(timeout=SECONDS_MAX)
    return process.returncode


def rows(data: Path) -> Rows:
    """Return what the log holds, in order, but for what is new each time: salts, leaves, times."""
    columns = "position, sequence, hex(id), kind, hex(cause), terminal, payload"
    sql = f"SELECT {columns} FROM event JOIN label ON label = number"
    with closing(sqlite3.connect(f"file:{data / 'log.sqlite'}?mode=ro", uri=True)) as connection:
        return connection.execute(f"{sql} ORDER BY position").fetchall()


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """A conversation, and the log that an import of it makes when nothing interrupts it."""
    parent = tmp_path_factory.mktemp("import")
    folder = write_files(parent / "c", [*pairs(RECORDS), run(RECORDS)])
    assert end(begin(folder, parent / "whole")) == 0
    whole = rows(parent / "whole")
    assert len([row for row in whole if row[3] == "run"]) == RECORDS + 2
    return folder, whole


@pytest.mark.parametrize("point", sorted(IMPORT_POINTS | {"before_append", "commit_to_ack"}))
def test_killed_at_every_named_point(conversation: tuple[Path, Rows], tmp_path: Path, point: str) -> None:
    """Killed at its first, second and last arrival at each point, an import that is run again is the same."""
    folder, whole = conversation
    for arrival in (1, 2, 6):
        data = tmp_path / str(arrival)
        assert end(begin(folder, data, f"{point}:{arrival}")) == -signal.SIGKILL
        assert end(begin(folder, data)) == 0
        assert rows(data) == whole
        assert not verify_file(data / "log.sqlite").problems


def test_killed_at_random(conversation: tuple[Path, Rows], tmp_path: Path) -> None:
    """Killed again and again at any time, an import still comes to its end, and the log is the same."""
    folder, whole = conversation
    chance = random.Random(4)
    started = time.monotonic()
    assert end(begin(folder, tmp_path / "timing")) == 0
    seconds = time.monotonic() - started
    data, kills = tmp_path / "data", 0
    for cycle in range(CYCLES):
        process, begun = begin(folder, data), time.monotonic()
        try:
            process.communicate(timeout=seconds * chance.uniform(0.3, 0.9))
            if not kills:
                # The machine was busy while it was timed: so fast it is, and once more from the start.
                seconds, data = time.monotonic() - begun, tmp_path / f"data-{cycle}"
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        end(process)
    assert end(begin(folder, data)) == 0
    assert kills
    assert rows(data) == whole
    assert not verify_file(data / "log.sqlite").problems


def test_an_import_in_two_commits_would_be_noticed(conversation: tuple[Path, Rows], tmp_path: Path) -> None:
    """Negative control: were a chunk's events and its mark two commits, a kill between them could not be made good."""
    folder, whole = conversation
    torn = ("-c", TORN)
    assert end(begin(folder, tmp_path / "data", "import_to_next:2", torn)) == -signal.SIGKILL
    assert end(begin(folder, tmp_path / "data", program=torn)) != 0
    assert rows(tmp_path / "data") != whole


def test_a_source_that_grew_while_the_import_was_away(conversation: tuple[Path, Rows], tmp_path: Path) -> None:
    """Killed, then run again over a source with more records: all of them are there, once."""
    folder = write_files(tmp_path / "c", pairs(CHUNK_RECORDS_MAX + 344))
    data = tmp_path / "data"
    assert end(begin(folder, data, "import_to_next:1")) == -signal.SIGKILL
    write_files(folder, pairs(CHUNK_RECORDS_MAX + 644))
    assert end(begin(folder, data)) == 0
    commands = [json.loads(row[6]).get("command") for row in rows(data) if row[3] == "run" and not row[5]]
    assert commands == [f"echo {n}" for n in range(0, CHUNK_RECORDS_MAX + 644, 2)]
