"""Room that is kept on the disk, and who may use it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from chronicled.events.envelope import Draft
from chronicled.events.store import Append, Appended
from chronicled.storage.entry import Entry
from chronicled.storage.reserve import RESERVE_BYTES, STEP_BYTES, Reserve
from chronicled.storage.testing_drafts import DraftMaker

MAKER = DraftMaker()
ACTION = MAKER.action("s")
END = MAKER.terminal("s", ACTION.id)


def test_the_reserve_takes_real_room_and_gives_it_back_in_pieces(tmp_path: Path) -> None:
    """Its blocks are the disk's and not a promise; each piece is given once, and all is taken again."""
    path = tmp_path / "reserve"
    reserve = Reserve(path)
    assert reserve.refill()
    assert path.stat().st_size == RESERVE_BYTES
    assert path.stat().st_blocks * 512 >= RESERVE_BYTES
    pieces = 0
    while reserve.release():
        pieces += 1
        assert path.stat().st_blocks * 512 <= RESERVE_BYTES - pieces * STEP_BYTES + 4096
    assert pieces == RESERVE_BYTES // STEP_BYTES
    assert reserve.refill()
    assert path.stat().st_blocks * 512 >= RESERVE_BYTES


def test_a_reserve_that_does_not_fit_keeps_what_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk gives a part and then no more, that part is given back: the log may need it."""
    path = tmp_path / "reserve"
    reserve = Reserve(path, 1 << 20)
    assert reserve.refill()
    assert reserve.release()
    left = path.stat().st_size

    def give_a_part(descriptor: int, offset: int, size: int) -> None:
        os.ftruncate(descriptor, offset + size // 2)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", give_a_part)
    assert not reserve.refill()
    assert path.stat().st_size == left


@pytest.mark.parametrize(
    ("drafts", "privileged"),
    [
        ((END,), True),
        ((MAKER.claimed("s"), END), True),
        ((MAKER.closed("s"),), True),
        ((MAKER.closed("s", source="client"),), False),
        ((ACTION,), False),
        ((END, MAKER.action("s")), False),
        ((MAKER.progress("s", ACTION.id),), False),
        ((MAKER.progress("s", ACTION.id), END), False),
    ],
)
async def test_the_reserve_is_for_what_must_be_told(drafts: tuple[Draft, ...], privileged: bool) -> None:
    """Ends of actions and what has happened; nothing that a client wants, also not together with such."""
    future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
    assert Entry(Append(drafts), future).privileged is privileged
