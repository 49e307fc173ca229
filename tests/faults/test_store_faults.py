"""The store on a disk that fails: what is acked is there afterwards, and a failed write or sync ends the process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.faults.appender import FAILED
from tests.faults.conftest import FaultyDisk

from chronicled.events.errors import LogCorrupt
from chronicled.storage.sqlite import LOG_NAME

COUNT = 480
"""Events that an appender tries to append: more than a hundred commits of its four tasks."""


def wal_of(log: Path) -> Path:
    """Return the write-ahead log beside a database."""
    return log.with_name(f"{log.name}-wal")


def damaged(
    disk: FaultyDisk, operation: str, numbers: range, *arguments: str, opening: bool = False
) -> tuple[int, int]:
    """Fail each of the given operations once; return how many faults hit, and how many acked events were lost."""
    hit = lost = 0
    for number in numbers:
        disk.clear()
        faults = {"operation": operation, "nth": str(number)}
        if not opening:
            faults["after"] = str(disk.directory / "armed")
        outcome = disk.run(COUNT, *arguments, **faults)
        if not arguments and not (outcome.injected and outcome.code == FAILED):
            # Not hit; or only by the last copying at the close, behind the last ack, which the next start does again.
            assert (outcome.code, len(outcome.acked)) == (0, COUNT + 1), f"{operation} {number}: {outcome}"
        hit += outcome.injected
        try:
            missing = disk.missing(outcome.acked)
        except (LogCorrupt, AssertionError):
            if not arguments:
                raise
            missing = outcome.acked
        lost += len(missing)
        assert arguments or not missing, f"{operation} {number}: acked and lost: {missing}"
    return hit, lost


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("start", range(1, 101, 25))
@pytest.mark.parametrize("operation", ["write", "sync"])
def test_no_failed_write_or_sync_loses_what_was_acked(disk: FaultyDisk, operation: str, start: int) -> None:
    """EIO at the n-th write or sync, n = 1..100: the process ends non-zero, all acked is there, the log verifies."""
    assert damaged(disk, operation, range(start, start + 25)) == (25, 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("operation", "numbers"), [("write", range(1, 120, 6)), ("sync", range(1, 8))])
def test_a_start_on_a_failing_disk_can_be_repeated(disk: FaultyDisk, operation: str, numbers: range) -> None:
    """EIO while the log is created: the process ends non-zero, and the next start finds a log that it can use."""
    hit, lost = damaged(disk, operation, numbers, opening=True)
    assert hit > 0
    assert lost == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", ["write", "sync"])
def test_the_faults_would_find_a_store_that_acks_too_early(disk: FaultyDisk, operation: str) -> None:
    """The negative control: a store that does not wait for its commit loses acked events to the same faults."""
    assert damaged(disk, operation, range(10, 100, 30), "broken")[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", [(), ("copying",)], ids=["appending", "copying"])
def test_a_full_disk_is_waited_out(disk: FaultyDisk, mode: tuple[str, ...]) -> None:
    """ENOSPC, also for what is copied from the write-ahead log: refused, and once there is room all goes on."""
    quota = disk.directory / "quota"
    quota.write_text("1500000")
    process = disk.start(1000, *mode, quota=str(quota))
    deadline = time.monotonic() + 30
    while not (disk.directory / "mark").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None
    quota.write_text("1000000000")
    outcome = disk.finish(process)
    assert (outcome.code, outcome.injected, len(outcome.acked)) == (0, True, 1001), outcome.errors
    assert disk.missing(outcome.acked) == []


@pytest.mark.slow
def test_running_actions_can_end_on_a_full_disk(disk: FaultyDisk) -> None:
    """The reserve is for what must be told: terminal observations and lifecycle get through, new actions do not."""
    quota = disk.directory / "quota"
    quota.write_text(str(1 << 30))
    outcome = disk.run(30, "reserve", quota=str(quota))
    assert (outcome.code, outcome.injected, len(outcome.acked)) == (0, True, 32), outcome.errors
    assert disk.missing(outcome.acked) == []


@pytest.mark.slow
def test_a_log_is_opened_on_a_full_disk_after_a_crash(disk: FaultyDisk) -> None:
    """What the crash left in the WAL need not be copied for a start: it is there, and lifecycle can be appended."""
    _, acks = killed(disk)
    quota = disk.directory / "quota"
    quota.write_text(str(disk.used))
    outcome = disk.run(0, "reopen", quota=str(quota))
    assert (outcome.code, outcome.injected, len(outcome.acked)) == (0, True, 1), outcome.errors
    assert disk.missing([*(id for _, id in acks), *outcome.acked]) == []


@pytest.mark.slow
def test_a_disk_without_room_for_the_reserve_is_full(disk: FaultyDisk) -> None:
    """What little there is at a start is left to what must be told: new actions are refused though they would fit."""
    assert disk.run(20).code == 0
    (disk.directory / "data" / "log.reserve").unlink()
    quota = disk.directory / "quota"
    quota.write_text(str(disk.used + 800_000))
    outcome = disk.run(0, "reopen", quota=str(quota))
    assert (outcome.code, len(outcome.acked)) == (0, 1), outcome.errors
    assert disk.missing(outcome.acked) == []


def killed(disk: FaultyDisk) -> tuple[Path, list[tuple[int, str]]]:
    """Kill an appender in the middle; return its files, and each acked id with a size that the WAL had by then."""
    # However slowly it is read here, it is in the middle: its WAL has not been copied and begun anew.
    process = replace(disk, pipe_bytes=4096).start(4000)
    assert process.stdout is not None
    acks: list[tuple[int, str]] = []
    for _ in range(300):
        id = process.stdout.readline().strip()
        acks.append((os.stat(wal_of(disk.log)).st_size, id))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    kept = disk.directory / "kept"
    shutil.copytree(disk.directory / "data", kept)
    return kept, acks


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["truncated", "garbled", "zeroed"])
def test_a_torn_tail_leaves_a_prefix(disk: FaultyDisk, how: str) -> None:
    """Killed, and its WAL torn at any place: what was acked before that place is there, nothing is half."""
    kept, acks = killed(disk)
    whole = wal_of(kept / LOG_NAME).read_bytes()
    chance = random.Random(how)
    offsets = [0, 1, 31, 32, len(whole) - 1, len(whole)] + [chance.randrange(len(whole)) for _ in range(30)]
    present: list[int] = []
    for offset in sorted(offsets):
        disk.clear()
        shutil.copytree(kept, disk.directory / "data")
        tail = len(whole) - offset
        torn = {"truncated": b"", "garbled": chance.randbytes(tail), "zeroed": bytes(tail)}[how]
        wal_of(disk.log).write_bytes(whole[:offset] + torn)
        safe = [id for size, id in acks if size <= offset]
        assert disk.missing(safe) == [], f"{how} at {offset} of {len(whole)}"
        present.append(len(acks) - len(disk.missing([id for _, id in acks])))
    assert present == sorted(present)
    assert present[0] < present[-1] == len(acks)
