"""Counts of segments: what they say is what the log holds, and a filter finds by them what it would find without."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.golden.databases import golden_databases, take_back, unpack, write

from chronicled.events.envelope import Event
from chronicled.events.store import Append, Filter
from chronicled.storage import sqlite_reader, wanted
from chronicled.storage.census import count_kinds
from chronicled.storage.connection import open_reader
from chronicled.storage.log_schema import LOG_STEPS
from chronicled.storage.schema import schema_status
from chronicled.storage.segments import COUNTED, PLACES_MAX, SEGMENT_EVENTS
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.sqlite_reader import SqliteReader
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.verification import verify_file

FILTERS = (
    Filter(),
    Filter(tenant="default", session="s"),
    Filter(tenant="default", session="t"),
    Filter(kinds=frozenset({"session_created"})),
    Filter(kinds=frozenset({"session_claimed", "session_closed"})),
    Filter(kinds=frozenset({"run"}), categories=frozenset({"observation"})),
    Filter(kinds=frozenset({"nobody_knows"})),
    Filter(categories=frozenset({"lifecycle"})),
    Filter(sources=frozenset({"worker"})),
    Filter(tenant="default", categories=frozenset({"lifecycle"})),
    Filter(tenant="other"),
    Filter(tenant="other", kinds=frozenset({"run"})),
    Filter(tenant="nobody"),
    Filter(tenant="default", session="s", kinds=frozenset({"session_claimed"})),
    Filter(tenant="default", session="s", kinds=frozenset({"run"}), categories=frozenset({"action"})),
    Filter(tenant="default", session="s", kinds=frozenset({"progress", "session_created"})),
    Filter(tenant="default", session="t", categories=frozenset({"lifecycle"})),
    Filter(tenant="default", session="t", sources=frozenset({"worker"})),
    Filter(tenant="default", session="t", kinds=frozenset({"nobody_knows"})),
    Filter(tenant="other", session="s", categories=frozenset({"lifecycle"})),
    Filter(tenant="other", session="t", categories=frozenset({"lifecycle"})),
)


async def read_all(store: SqliteStore, where: Filter, limit: int, after: int = 0) -> tuple[list[Event], int]:
    """Return every wanted event behind a position, and how many pages it took."""
    events: list[Event] = []
    for pages in range(1, 20_000):
        page = await store.read(after, limit, where)
        assert len(page.events) <= limit
        assert page.next > after or page.at_end
        events += page.events
        after = page.next
        if page.at_end:
            return events, pages
    raise AssertionError("no end")


async def fill(path: Path, batches: int = 60) -> list[Event]:
    """Write a log with frequent and rare events of two tenants, one with two sessions; return all of it."""
    randomness = random.Random(7)
    makers = [DraftMaker("default"), DraftMaker("other")]
    async with await SqliteStore.open(path) as store:
        for maker in makers:
            await store.append(maker.create("s"))
        await store.append(makers[0].create("t"))
        for _ in range(batches):
            mostly = randomness.choice(("sssst", "tttts", "s", "t"))
            drafts = [makers[0].action(randomness.choice(mostly), "make") for _ in range(randomness.randint(150, 500))]
            drafts += [makers[1].action("s", "rare") for _ in range(randomness.choice((0, 0, 0, 1, 3)))]
            drafts += [makers[0].claimed(randomness.choice("st")) for _ in range(randomness.choice((0, 0, 1, 9)))]
            drafts += [makers[0].progress("s", drafts[0].id) for _ in range(randomness.choice((0, 0, 120)))]
            randomness.shuffle(drafts)
            for maker in makers:
                mine = tuple(draft for draft in drafts if draft.tenant == maker.tenant)
                if mine:
                    await store.append(Append(mine))
        return (await read_all(store, Filter(), 1000))[0]


@pytest.mark.parametrize("golden", golden_databases(), ids=lambda path: path.name)
async def test_a_database_of_every_earlier_step_is_brought_on_and_whole(golden: Path, tmp_path: Path) -> None:
    """Each golden database opens at the newest step, verifies, is counted right, and takes new events."""
    path = tmp_path / LOG_NAME
    unpack(golden, path)
    before = schema_status(path).current
    assert golden.name == f"step-{before}.sqlite.xz"
    counted = count_kinds(path)
    async with await SqliteStore.open(path) as store:
        head = store.head
        await store.append(Append((DraftMaker().action("session-1", "one more"),)))
        everything = (await read_all(store, Filter(), 1000))[0]
        for where in FILTERS:
            found = (await read_all(store, where, 100))[0]
            assert found == [event for event in everything if where.admits(event)]
    assert schema_status(path).current == len(LOG_STEPS)
    assert sum(each.events for each in counted) == head
    assert sum(each.events for each in count_kinds(path)) == head + 1
    assert not verify_file(path).problems


def test_every_step_has_its_golden_database() -> None:
    """`python -m tests.golden.databases` writes the one that is missing."""
    assert [path.name for path in golden_databases()] == [f"step-{step.number}.sqlite.xz" for step in LOG_STEPS]


async def test_a_log_taken_back_is_what_the_former_program_wrote(tmp_path: Path) -> None:
    """The golden database of step 1 has the very schema of a log that was written when step 1 was the newest."""
    written = Path(__file__).parents[2] / "golden" / "logs" / "step-1.sqlite"
    path = tmp_path / LOG_NAME
    await write(path, 100)
    take_back(path, 1)
    schemas: list[object] = []
    for each in (written, path):
        with closing(sqlite3.connect(f"file:{each}?immutable=1", uri=True)) as connection:
            sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2"
            schemas.append(connection.execute(sql).fetchall())
    assert schemas[0] == schemas[1]


@pytest.mark.parametrize(
    ("looked_at_max", "segments_max"), [(wanted.SCAN_EVENTS_MAX, wanted.SEGMENTS_MAX), (700, 2), (90, 1)]
)
async def test_a_filter_finds_by_the_counts_what_it_admits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at_max: int, segments_max: int
) -> None:
    """Page by page, of any size and from anywhere, what comes is exactly what the filter admits, in order."""
    monkeypatch.setattr(wanted, "SCAN_EVENTS_MAX", looked_at_max)
    monkeypatch.setattr(wanted, "SEGMENTS_MAX", segments_max)
    # What is remembered of sessions and labels is bounded too, and what was forgotten is looked up.
    monkeypatch.setattr(sqlite_reader, "NAMES_MAX", 2)
    path = tmp_path / LOG_NAME
    everything = await fill(path)
    async with await SqliteStore.open(path) as store:
        for where in FILTERS:
            for limit, after in ((1000, 0), (7, store.head - 300), (100, 5000), (17, SEGMENT_EVENTS * 2 - 3)):
                found, _ = await read_all(store, where, limit, after)
                assert found == [event for event in everything if event.position > after and where.admits(event)]
        reader: Any = store._reader  # pyright: ignore[reportPrivateUsage] - there is no other view of what it keeps
        assert max(len(reader._names), len(reader._labels)) <= 2


@pytest.mark.parametrize("looked_at_max", [wanted.SCAN_EVENTS_MAX, 300])
async def test_a_reader_with_an_older_head_gets_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at_max: int
) -> None:
    """Whatever the log has counted since, a reader is given what lies before its head, and no more, and gets there."""
    monkeypatch.setattr(wanted, "SCAN_EVENTS_MAX", looked_at_max)
    path = tmp_path / LOG_NAME
    everything = await fill(path)
    reader = SqliteReader()
    with closing(open_reader(path)) as connection:
        for head in (1, 4095, 4096, 4097, 5000, 8191, 8192, 8200, 12_288, 12_300):
            for where in FILTERS:
                after, found = 0, list[Event]()
                while True:
                    page = reader.page(connection, head, after, 50, where)
                    found += page.events
                    assert page.next > after or page.at_end
                    after = page.next
                    if page.at_end:
                        break
                assert after == head
                assert found == [event for event in everything if event.position <= head and where.admits(event)]


async def test_counts_that_miss_an_event_hide_it_and_verification_says_so(tmp_path: Path) -> None:
    """Negative control: readers do go by the counts, so `audit verify` finds counts that are wrong."""
    path = tmp_path / LOG_NAME
    await fill(path)
    where = Filter(tenant="other", kinds=frozenset({"session_created"}))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER segment_label_delete")
        connection.execute("DELETE FROM segment_label WHERE segment = 0 AND events = 1")
    async with await SqliteStore.open(path) as store:
        assert (await read_all(store, where, 10))[0] == []
    assert verify_file(path).problems == ("position 1: the counts of segment 0 do not follow from its events",)


async def test_what_is_rare_is_one_page_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few events of a long log come with the first page; without the counts it takes a page for each 10,000."""
    path = tmp_path / LOG_NAME
    maker = DraftMaker()
    async with await SqliteStore.open(path) as store:
        await store.append(maker.create("s"))
        for _ in range(90):
            await store.append(Append(tuple(maker.action("s") for _ in range(500))))
        await store.append(Append((maker.claimed("s"),)))
        where = Filter(kinds=frozenset({"session_claimed", "session_created"}))
        assert [len(each) if isinstance(each, list) else each for each in await read_all(store, where, 10)] == [2, 1]

        def none(_connection: sqlite3.Connection) -> int:
            return 0

        with monkeypatch.context() as patch:
            patch.setattr(wanted, "segments_counted", none)
            assert (await read_all(store, where, 10))[1] == 5
        # 45,002 events are ten whole segments and a tail.
        monkeypatch.setattr(wanted, "SEGMENTS_MAX", 4)
        assert (await read_all(store, where, 10))[1] == 3


async def test_what_is_rare_in_a_session_is_one_page_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is within one long session, beside another one; without the counts it takes a page for each 10,000."""
    path = tmp_path / LOG_NAME
    maker = DraftMaker()
    async with await SqliteStore.open(path) as store:
        for session in "st":
            await store.append(maker.create(session))
        for _ in range(90):
            await store.append(Append(tuple(maker.action("sst"[number % 3]) for number in range(500))))
        await store.append(Append((maker.claimed("s"),)))
        await store.append(Append((maker.claimed("t"),)))
        where = Filter(tenant="default", session="s", kinds=frozenset({"session_claimed", "session_created"}))
        found, pages = await read_all(store, where, 10)
        assert ([event.kind for event in found], pages) == (["session_created", "session_claimed"], 1)

        def none(_connection: sqlite3.Connection) -> int:
            return 0

        monkeypatch.setattr(wanted, "segments_counted", none)
        assert await read_all(store, where, 10) == (found, 4)


async def test_what_is_rare_in_a_session_and_frequent_beside_it_is_looked_for_within_bounds(tmp_path: Path) -> None:
    """Where counts cannot tell whose events there are, a page still looks at no more than 10,000 of the session."""
    path = tmp_path / LOG_NAME
    maker = DraftMaker()
    async with await SqliteStore.open(path) as store:
        for session in "st":
            await store.append(maker.create(session))
        for _ in range(90):
            drafts = [maker.action("s") for _ in range(333)] + [maker.claimed("t") for _ in range(167)]
            await store.append(Append(tuple(drafts)))
        await store.append(Append((maker.claimed("s"),)))
        found, pages = await read_all(store, Filter("default", "s", frozenset({"session_claimed"})), 10)
        assert ([event.position for event in found], pages) == ([store.head], 3)


async def test_the_writer_counts_each_segment_once(tmp_path: Path) -> None:
    """Counts are those of the log however it was closed and opened in between, and places are kept of the rare only."""
    path = tmp_path / LOG_NAME
    maker = DraftMaker()
    for start in range(0, 13_000, 1300):
        async with await SqliteStore.open(path) as store:
            if start == 0:
                await store.append(maker.create("s"))
            for _ in range(13):
                drafts = [maker.action("s") for _ in range(98)] + [maker.claimed("s"), maker.claimed("s")]
                await store.append(Append(tuple(replace(draft, lane=f"lane-{start}") for draft in drafts)))
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT * FROM segment_label ORDER BY 1, 2, 3").fetchall()
        again = [
            row
            for segment in range(13_001 // SEGMENT_EVENTS)
            for row in connection.execute(COUNTED, {"segment": segment, "before": segment * SEGMENT_EVENTS})
        ]
    assert rows == sorted(again, key=lambda row: row[:3])
    assert all((places is None) == (events > PLACES_MAX) for *_, events, places in rows)
    assert {places is None for *_, places in rows} == {True, False}
