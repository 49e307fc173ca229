"""Pages of the store in SQLite: bounded in bytes as well as in events, and none is left out in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronicled.events.envelope import Event
from chronicled.events.store import Append, Filter
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.sqlite_reader import PAGE_BYTES_MAX
from chronicled.storage.testing_drafts import DraftMaker

LARGEST = 1 << 20
"""Payload of the largest event that is accepted."""


@pytest.mark.parametrize(
    "where",
    [
        Filter(),
        Filter("default", "s"),
        Filter("default", "s", frozenset({"run"})),
        Filter(kinds=frozenset({"run", "session_created"})),
    ],
    ids=["all", "session", "kind in a session", "kinds"],
)
async def test_a_page_ends_when_it_is_large(tmp_path: Path, where: Filter) -> None:
    """A page has at most 4 MiB of payload and one event more; the next one goes on behind it, to the last event."""
    make = DraftMaker()
    async with await SqliteStore.open(tmp_path / LOG_NAME) as store:
        await store.append(make.create("s"))
        for size in (700_000, LARGEST - 100, 10, 100_000) * 8:
            await store.append(Append((make.action("s", "x" * size),)))
        found: list[Event] = []
        sizes: list[int] = []
        after = 0
        for _ in range(100):
            page = await store.read(after, 1000, where)
            assert page.events[-1].position == page.next
            sizes.append(sum(len(bytes(event.payload)) for event in page.events))
            found += page.events
            after = page.next
            if page.at_end:
                break
        first = 1 if where.admits(found[0]) and found[0].kind == "session_created" else 2
        assert [event.position for event in found] == list(range(first, store.head + 1))
        assert max(sizes) < PAGE_BYTES_MAX + LARGEST
        assert min(sizes[:-1]) >= PAGE_BYTES_MAX


async def test_the_write_ahead_log_is_bounded(tmp_path: Path) -> None:
    """It is copied into the database whenever it has about 16 MiB, and never inside a commit before that."""
    make = DraftMaker()
    path = tmp_path / LOG_NAME
    wal = tmp_path / f"{LOG_NAME}-wal"
    async with await SqliteStore.open(path, reserve_bytes=4096) as store:
        await store.append(make.create("s"))
        begun = path.stat().st_size
        grown = 0
        for turn in range(150):
            await store.append(Append(tuple(make.action("s", "x" * 60_000) for _ in range(8))))
            if turn < 10:
                assert path.stat().st_size == begun
            grown = max(grown, wal.stat().st_size)
    assert 8 << 20 < grown < 24 << 20
    assert path.stat().st_size > 20 << 20
