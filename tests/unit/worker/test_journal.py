"""The dispatch journal: what it proves, and when it proves nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.errors import StorageFull, StoreFailed
from chronicled.events.ids import SystemIds
from chronicled.runtimes.worker.journal import HEADER, RECORD_BYTES, Journal
from chronicled.storage.disk import SystemDisk

IDS = SystemIds()


def opened(path: Path, boot: str = "boot") -> Journal:
    """Open the journal in the directory."""
    return Journal(str(path), boot, SystemDisk())


def test_what_was_noted_is_known_after_a_crash(tmp_path: Path) -> None:
    """A dispatch, a request and a vouch survive the process, though nothing was synced or closed."""
    generation, action, request = IDS.new(), IDS.new(), IDS.new()
    journal = opened(tmp_path)
    journal.vouch(generation, 7)
    journal.note_dispatch(generation, action, 7)
    journal.note_request(generation, request, 7)
    again = opened(tmp_path)
    assert again.vouches(generation)
    assert again.dispatched(generation, action)
    assert again.requested(generation, request)
    assert not again.dispatched(generation, request)
    assert not again.dispatched(IDS.new(), action)


@given(cut=st.integers(1, RECORD_BYTES - 1))
def test_a_torn_last_record_is_tolerated(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever a crash tears the last record, those before it count and those after a restart are whole."""
    path = tmp_path_factory.mktemp("journal")
    generation, first, torn, later = (IDS.new() for _ in range(4))
    journal = opened(path)
    journal.vouch(generation, 1)
    journal.note_dispatch(generation, first, 1)
    journal.note_dispatch(generation, torn, 1)
    os.truncate(path / "dispatch", (path / "dispatch").stat().st_size - cut)
    again = opened(path)
    assert again.vouches(generation)
    assert again.dispatched(generation, first)
    assert not again.dispatched(generation, torn)
    again.note_dispatch(generation, later, 2)
    assert opened(path).dispatched(generation, later)


def test_without_room_the_old_journal_goes_on(tmp_path: Path) -> None:
    """A start on a full disk knows what was noted, notes nothing new, and a torn record hides nothing that follows."""
    generation, first, torn, later = (IDS.new() for _ in range(4))
    journal = opened(tmp_path)
    journal.vouch(generation, 1)
    journal.note_dispatch(generation, first, 1)
    journal.note_dispatch(generation, torn, 1)
    os.truncate(tmp_path / "dispatch", (tmp_path / "dispatch").stat().st_size - 3)
    disk = FailingDisk()
    disk.error = errno.ENOSPC
    again = Journal(str(tmp_path), "boot", disk)
    assert again.vouches(generation)
    assert again.dispatched(generation, first)
    again.keep(lambda _: True)
    with pytest.raises(StorageFull):
        again.note_dispatch(generation, later, 2)
    disk.error = 0
    again.note_dispatch(generation, later, 2)
    disk.error = errno.ENOSPC
    last = opened(tmp_path)
    assert last.dispatched(generation, first)
    assert last.dispatched(generation, later)
    assert not last.dispatched(generation, torn)
    (tmp_path / "other").mkdir()
    with pytest.raises(StorageFull):
        Journal(str(tmp_path / "other"), "boot", disk)


def test_missing_other_boot_and_damage_prove_nothing(tmp_path: Path) -> None:
    """A journal that is missing, of another boot, or damaged before its end vouches for no earlier generation."""
    generation = IDS.new()
    assert not opened(tmp_path).vouches(generation)
    journal = opened(tmp_path)
    journal.vouch(generation, 1)
    journal.note_dispatch(generation, IDS.new(), 1)
    data = bytearray((tmp_path / "dispatch").read_bytes())
    assert not opened(tmp_path, "later boot").vouches(generation)
    data[HEADER.size + 3] ^= 1
    (tmp_path / "dispatch").write_bytes(data)
    assert not opened(tmp_path).vouches(generation)
    assert not opened(tmp_path).vouches(generation), "what the damage hid must not look whole after one more restart"


@pytest.mark.parametrize("record", [0, 1, 2])
def test_damage_to_any_record_takes_the_word_of_all(tmp_path: Path, record: int) -> None:
    """A journal of which one dispatch cannot be read would make "never sent" of it: it vouches for nobody."""
    generation = IDS.new()
    journal = opened(tmp_path)
    journal.vouch(generation, 1)
    journal.note_dispatch(generation, IDS.new(), 1)
    journal.note_dispatch(generation, IDS.new(), 1)
    data = bytearray((tmp_path / "dispatch").read_bytes())
    # In the action's id; of the first record, in the generation's own.
    data[HEADER.size + record * RECORD_BYTES + 20] ^= 1
    (tmp_path / "dispatch").write_bytes(data)
    assert not opened(tmp_path).vouches(generation)


def test_compaction_keeps_what_is_wanted(tmp_path: Path) -> None:
    """After `keep` the file holds the wanted generations' records and nothing else."""
    kept, dropped = IDS.new(), IDS.new()
    journal = opened(tmp_path)
    for generation in (kept, dropped):
        journal.vouch(generation, 1)
        journal.note_dispatch(generation, IDS.new(), 1)
    journal.keep({kept}.__contains__)
    assert (tmp_path / "dispatch").stat().st_size == HEADER.size + 2 * RECORD_BYTES
    assert opened(tmp_path).vouches(kept)
    assert not opened(tmp_path).vouches(dropped)


class FailingDisk(SystemDisk):
    """A disk that takes part of a write and then fails with this error."""

    error = 0

    def write(self, descriptor: int, data: bytes) -> None:
        """Write, or write half and fail."""
        if self.error:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(self.error, os.strerror(self.error))
        super().write(descriptor, data)


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, StorageFull), (errno.EIO, StoreFailed)])
def test_a_failed_write_leaves_no_trace(tmp_path: Path, number: int, expected: type[Exception]) -> None:
    """A full disk is told from a broken one; half a record does not shift those that follow."""
    disk = FailingDisk()
    journal = Journal(str(tmp_path), "boot", disk)
    generation, refused, taken = (IDS.new() for _ in range(3))
    disk.error = number
    with pytest.raises(expected):
        journal.note_dispatch(generation, refused, 1)
    disk.error = 0
    journal.note_dispatch(generation, taken, 1)
    again = opened(tmp_path)
    assert again.dispatched(generation, taken)
    assert not again.dispatched(generation, refused)
