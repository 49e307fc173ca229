from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.frames import Result
from chronicled.runtimes.action_server.spool import ResultSpool, read_results

RESULTS = [
    Result(action=f"action-{n}", outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"exit_code": n, "text": "x" * n})
    for n in range(20)
]


def write(path: Path) -> ResultSpool:
    """Open the writing end."""
    return ResultSpool(os.open(path, os.O_CREAT | os.O_RDWR))


def read(path: Path) -> list[Result]:
    """Return what a reader finds."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(read_results(descriptor))
    finally:
        os.close(descriptor)


def test_results_read_back_in_order_and_by_offset(tmp_path: Path) -> None:
    """What was appended is read, by a later spool on the same file too, which goes on behind it."""
    path = tmp_path / "results"
    spool = write(path)
    offsets = [spool.append(result) for result in RESULTS[:10]]
    assert [spool.read(offset) for offset in offsets] == RESULTS[:10]
    spool.close()
    again = write(path)
    for result in RESULTS[10:]:
        again.append(result)
    again.close()
    assert read(path) == RESULTS


def test_a_cleared_spool_starts_again(tmp_path: Path) -> None:
    """After clearing, nothing is read but what is written then."""
    path = tmp_path / "results"
    spool = write(path)
    spool.append(RESULTS[0])
    assert spool.bytes_total == path.stat().st_size > 0
    spool.clear()
    assert (spool.bytes_total, read(path)) == (0, [])
    spool.append(RESULTS[1])
    spool.close()
    assert read(path) == [RESULTS[1]]


@given(cut=st.integers(0, 1500))
def test_a_torn_tail_is_ignored_and_written_over(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """However the file is cut, the whole records before the cut are read, and the next one follows them."""
    path = tmp_path_factory.mktemp("spool") / "results"
    spool = write(path)
    ends = [spool.append(result) for result in RESULTS] + [path.stat().st_size]
    spool.close()
    os.truncate(path, min(cut, ends[-1]))
    whole = sum(end <= cut for end in ends[1:])
    assert read(path) == RESULTS[:whole]
    again = write(path)
    again.append(RESULTS[0])
    again.close()
    assert read(path) == [*RESULTS[:whole], RESULTS[0]]


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_is_never_read_as_a_result(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    """A byte that is not what was written ends the reading; no result comes out changed."""
    path = tmp_path_factory.mktemp("spool") / "results"
    spool = write(path)
    for result in RESULTS:
        spool.append(result)
    spool.close()
    data = bytearray(path.read_bytes())
    data[place % len(data)] = value
    path.write_bytes(data)
    found = read(path)
    assert found == RESULTS[: len(found)]


def test_a_full_disk_leaves_the_spool_as_it_was() -> None:
    """A result that cannot be written is an error, and nothing of it stays."""
    descriptor = os.open("/dev/full", os.O_RDWR)
    assert ResultSpool(os.open("/dev/null", os.O_RDWR)).is_same_file(descriptor) is False
    spool = ResultSpool(os.open("/dev/null", os.O_RDONLY))
    with pytest.raises(OSError, match=r"Bad file descriptor|Invalid argument"):
        spool.append(RESULTS[0])
    spool.close()
    os.close(descriptor)
