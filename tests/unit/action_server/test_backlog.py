from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.runtimes.action_server import backlog
from chronicled.runtimes.action_server.backlog import Backlog, SpillRoom

STEPS = st.lists(st.tuples(st.sampled_from(["append", "read", "release"]), st.integers(0, 50)), max_size=60)


@given(steps=STEPS)
def test_what_is_read_is_what_was_added_in_memory_or_file(steps: list[tuple[str, int]]) -> None:
    """Whatever is added, read and released in whatever order: bytes come out at their offsets, and no room is lost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "MEMORY_BYTES_MAX", 40)
        patch.setattr(backlog, "MEMORY_BYTES_SUM", 60)
        patch.setattr(backlog, "SPILL_BYTES_MAX", 100)
        patch.setattr(backlog, "SPILL_MEMORY_BYTES_MAX", 100)
        room = SpillRoom()
        kept = Backlog(room)
        written = bytearray()
        for step, number in steps:
            if step == "append":
                data = bytes((len(written) + index) % 251 for index in range(number))
                count = kept.append(memoryview(data))
                assert count <= number
                written += data[:count]
                if count < number:
                    break
            elif step == "read":
                offset = kept.base + number % (kept.end - kept.base + 1)
                data = kept.read(offset, number)
                assert data == bytes(written[offset : offset + len(data)])
                assert data or not number or offset == kept.end
            else:
                kept.release(kept.base + number % (kept.end - kept.base + 1))
        assert kept.end == len(written)
        kept.close()
        assert (room.take_memory(1000), room.take(1000)) == (60, 100)


def test_files_go_to_a_disk_and_have_no_name(tmp_path: Path) -> None:
    """A backlog that outgrows memory uses a file of the first directory on a disk, which nobody finds by a name."""
    descriptor = SpillRoom(("/dev/shm", str(tmp_path / "missing"), str(tmp_path))).open()
    status = os.fstat(descriptor)
    assert (status.st_nlink, status.st_dev, status.st_mode & 0o777) == (0, os.stat(tmp_path).st_dev, 0o600)
    assert os.listdir(tmp_path) == []
    os.close(descriptor)


def test_without_a_disk_less_is_kept() -> None:
    """Where every directory is in memory, files are the sandbox's memory: fewer bytes may be in them."""
    room = SpillRoom(("/dev/shm",))
    os.close(room.open())
    assert room.take(1 << 40) == backlog.SPILL_MEMORY_BYTES_MAX
