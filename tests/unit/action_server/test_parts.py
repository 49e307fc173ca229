from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.runtimes import process
from chronicled.runtimes.action_server import process_tree, settings
from chronicled.runtimes.action_server.executor import ExecutorTable
from chronicled.runtimes.action_server.files import FileExecutor
from chronicled.runtimes.action_server.output import OutputSpool
from chronicled.runtimes.action_server.terminal import MarkFilter
from chronicled.runtimes.testing import eventually


@given(data=st.binary(), mark=st.binary(min_size=1, max_size=8), after=st.binary(), cuts=st.lists(st.integers(0, 40)))
def test_the_mark_is_taken_out_however_the_stream_is_cut(
    data: bytes, mark: bytes, after: bytes, cuts: list[int]
) -> None:
    """All of the stream but the first mark comes through, in order, and the mark is noticed."""
    stream = data + mark + after
    at = stream.find(mark)
    expected = stream[:at] + stream[at + len(mark) :]
    taken, out, start = MarkFilter(mark), b"", 0
    for cut in [*sorted(cuts), len(stream)]:
        out += b"".join(taken.split(stream[start:cut]))
        start = max(start, cut)
    assert taken.passed
    assert out == expected


def test_settings_read_back_whole() -> None:
    """Every setting survives the way over the descriptor, with environment values of any bytes but NUL."""
    told = settings.Settings()
    told.generation, told.token, told.working_directory = "g", "t=x", "/a b"
    told.unclaimed_seconds_max = 1.5
    told.import_paths = ["/one", "/two"]
    told.environment = {b"A": b"1=2\n\xff", b"EMPTY": b""}
    assert vars(settings.decode(settings.encode(told))) == vars(told)
    told.environment[b"B"] = b"\0"
    with pytest.raises(ValueError, match="NUL"):
        settings.encode(told)


async def test_output_stops_at_its_cap_and_at_a_full_disk(tmp_path: Path) -> None:
    """The kept bytes are a prefix, whatever refuses the rest, and notices tell the kept size."""
    notices: list[int] = []
    path = tmp_path / "out"
    spool = OutputSpool(os.open(path, os.O_CREAT | os.O_RDWR), 10, notices.append)
    for part in (b"abcd", b"efgh", b"ijkl", b"mnop"):
        spool.write(memoryview(part))
    await eventually(lambda: notices)
    spool.close()
    spool.write(memoryview(b"late"))
    assert path.read_bytes() == b"abcdefghij"
    assert (notices, spool.bytes_total, spool.bytes_dropped) == ([10], 20, 10)
    full = OutputSpool(os.open("/dev/full", os.O_RDWR), 10, notices.append)
    full.write(memoryview(b"abc"))
    full.write(memoryview(b"def"))
    assert (full.bytes_kept, full.bytes_dropped) == (0, 6)
    full.close()


def test_descendants_are_found_with_their_start_and_ended() -> None:
    """The tree below a process is found whole, spared branches are left out, and a pid of another start is not hit."""
    script = "sleep 50 & (sleep 51; true) & echo up; wait"
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as root:
        assert root.stdout is not None
        root.stdout.readline()
        found = process_tree.descendants(root.pid)
        while len(found) < 3:
            found = process_tree.descendants(root.pid)
        branch = next(one for one in found if process_tree.descendants(one[0]))
        spared = process_tree.descendants(root.pid, frozenset({branch}))
        assert len(spared) == len(found) - 2
        assert not process_tree.send((branch[0], branch[1] + 1), 9)
        killed, left = process_tree.end(root.pid, 60.0)
        assert (killed, left) == (3, [])
        root.wait(60)


def test_a_kind_has_one_executor() -> None:
    """A second executor for a kind is refused, by name, before any kind of it is taken."""
    table = ExecutorTable([FileExecutor()])
    with pytest.raises(ValueError, match="read"):
        table.add(FileExecutor())
    assert table.kinds == ["download", "edit", "git", "list", "read", "upload", "write"]
    assert table.find("none") is None


def test_the_server_loads_nothing_of_the_daemon() -> None:
    """Started as in a sandbox, the server loads none of the daemon's libraries, and the reaper next to nothing."""
    code = (
        f"import sys; sys.path += {process.import_paths()!r}\n"
        "from chronicled.runtimes.action_server import reaper\n"
        "print(sorted({'asyncio', 'msgspec', 'typing', 'dataclasses'} & sys.modules.keys()))\n"
        "reaper.load_server()\n"
        "unwanted = {'aiohttp', 'aiodocker', 'aiosqlite', 'anyio', 'structlog', 'sqlite3', 'ssl', '_ssl'}\n"
        "print(sorted(unwanted & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"], done.stdout
