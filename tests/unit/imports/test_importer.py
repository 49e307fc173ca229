"""The importer: once, whole, in order, with the original bytes; again without effect; never over what has changed."""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imports.conversations import (
    bring,
    events_of,
    made,
    originals,
    pairs,
    payload,
    ran,
    run,
    write_files,
    write_page,
)

from chronicled.events.errors import DataDirectoryBusy, ImportRefused, LogCorrupt, Refused, SourceChanged
from chronicled.storage.imports.chunk import CHUNK_RECORDS_MAX, Entry
from chronicled.storage.imports.destination import Destination, open_destination
from chronicled.storage.imports.ledger import Ledger
from chronicled.storage.imports.source import Record


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Destination]:
    """A data directory that nobody else uses."""
    data = tmp_path / "data"
    data.mkdir()
    async with open_destination(data) as destination:
        yield destination


async def test_a_conversation_becomes_a_session(to: Destination, tmp_path: Path) -> None:
    """Events come in order, with ids, causes and payloads of ours; the log verifies."""
    folder = write_files(tmp_path / "conversation", pairs(600))
    [outcome] = await bring(to, folder)
    events = await events_of(to.store, "conversation")
    assert [event.kind for event in events[:4]] == ["session_created", "session_imported", "run", "run"]
    assert (outcome.records, outcome.events, outcome.opaque) == (600, 600, 0)
    found = await made(to.store, "conversation")
    assert len(found) == 600
    assert [payload(event)["command"] for event in found[::2]] == [f"echo {n}" for n in range(0, 600, 2)]
    assert [payload(event)["output"] for event in found[1::2]] == [f"output {n}" for n in range(1, 600, 2)]
    assert [event.cause for event in found[1::2]] == [event.id for event in found[::2]]
    assert {event.source for event in events} == {"import"}
    assert not await to.store.verify()


async def test_original_bytes_are_kept(to: Destination, tmp_path: Path) -> None:
    """Each record's bytes can be had again as they stood there, with its time and the ids of the events made of it."""
    folder = write_files(tmp_path / "c", pairs(300))
    await bring(to, folder, timezone="Europe/Berlin")
    kept = await originals(to, "c")
    ids = {event.id for event in await made(to.store, "c")}
    assert [data for _, data in kept] == [(folder / "events" / f"{n}.json").read_bytes() for n in range(300)]
    assert {id for entry, _ in kept for id in entry.events} == ids
    assert kept[1][0].time == "2025-01-02T03:04:01.000001"
    assert kept[1][0].time_utc == "2025-01-02T02:04:01.000001Z"


async def test_a_second_import_appends_nothing(to: Destination, tmp_path: Path) -> None:
    """The same source again changes nothing, whether it ends within a chunk, with one, or is empty."""
    for count in (0, 10, CHUNK_RECORDS_MAX, 2 * CHUNK_RECORDS_MAX, 2 * CHUNK_RECORDS_MAX + 1):
        folder = write_files(tmp_path / f"c{count}", pairs(count))
        await bring(to, folder)
        head, root = to.store.head, to.store.root
        [outcome] = await bring(to, folder)
        assert (to.store.head, to.store.root) == (head, root)
        assert (outcome.records, outcome.earlier) == (0, count)


async def test_a_report_is_whole_however_often_it_was_begun(to: Destination, tmp_path: Path) -> None:
    """The report of a second import tells of every record what the first one told."""
    folder = write_files(tmp_path / "c", pairs(300))
    first: list[Entry] = []
    await bring(to, folder, report=first)
    again: list[Entry] = []
    await bring(to, folder, report=again)
    assert again == first
    assert [entry.key for entry in first] == [str(n) for n in range(300)]


async def test_a_source_that_has_grown_appends_what_is_new(to: Destination, tmp_path: Path) -> None:
    """Only new records are appended, and their causes are found across the border."""
    folder = write_files(tmp_path / "c", pairs(301)[:301])
    await bring(to, folder)
    before = await made(to.store, "c")
    write_files(folder, [run(400), ran(401)])
    [outcome] = await bring(to, folder)
    after = await made(to.store, "c")
    assert outcome.records == 2
    assert after[: len(before)] == before
    assert [event.kind for event in after[len(before) :]] == ["run", "run"]
    assert after[-1].cause == after[-2].id
    assert not await to.store.verify()


async def test_an_end_that_comes_late_is_told_as_late(to: Destination, tmp_path: Path) -> None:
    """An action without an end ends unknown; if a later import brings its end, that is kept beside it, not over it."""
    folder = write_files(tmp_path / "c", [run(0)])
    await bring(to, folder)
    action, end = await made(to.store, "c")
    assert (payload(end)["outcome"], payload(end)["effects"]) == ("unknown", "possible")
    assert (payload(end)["reason"], end.cause) == ("not_in_import", action.id)
    write_files(folder, [ran(1)])
    await bring(to, folder)
    late = [event for event in await events_of(to.store, "c") if event.kind == "late_result"]
    assert [(event.cause, payload(event)["outcome"]) for event in late] == [(action.id, "ok")]
    assert len(await made(to.store, "c")) == 2


async def test_a_source_that_has_changed_is_refused(to: Destination, tmp_path: Path) -> None:
    """A record that is another now, is gone, or stands between others is named, and nothing is appended."""
    folder = write_files(tmp_path / "c", [event for event in pairs(300) if event["id"] != 40])
    await bring(to, folder)
    head = to.store.head
    seventeen = folder / "events" / "17.json"
    kept = seventeen.read_bytes()
    seventeen.write_bytes(kept.replace(b"output 17", b"output 71"))
    with pytest.raises(SourceChanged, match="record '17' is another"):
        await bring(to, folder)
    seventeen.unlink()
    with pytest.raises(SourceChanged, match="record '18' stands where '17' stood"):
        await bring(to, folder)
    seventeen.write_bytes(kept)
    write_files(folder, [run(40)])
    with pytest.raises(SourceChanged, match="record '40' stands where '41' stood"):
        await bring(to, folder)
    (folder / "events" / "40.json").unlink()
    (folder / "events" / "299.json").unlink()
    with pytest.raises(SourceChanged, match="record '299' is gone"):
        await bring(to, folder)
    assert to.store.head == head


async def test_the_check_of_changes_is_what_refuses(
    to: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: with the check taken out, a changed source is taken for the one that was imported."""
    folder = write_files(tmp_path / "c", pairs(10))
    await bring(to, folder)
    (folder / "events" / "3.json").write_text(json.dumps(ran(3, "forged")))

    def blind(ledger: Ledger, records: Iterator[Record]) -> None:
        deque(records, maxlen=0)

    monkeypatch.setattr("chronicled.storage.imports.ledger.Ledger.check", blind)
    [outcome] = await bring(to, folder)
    assert (outcome.records, outcome.earlier) == (0, 10)


async def test_a_session_that_is_no_import_is_left_alone(to: Destination, tmp_path: Path) -> None:
    """A name that is taken by another session is refused, saying what to do."""
    folder = write_files(tmp_path / "c", pairs(4))
    await bring(to, folder)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(pairs(6)[2:]))
    with pytest.raises(SourceChanged, match=f"was imported from {re.escape(str(folder))}.*--session"):
        await bring(to, other, "c")
    from tests.unit.imports.native import create

    await create(to.store, "native")
    with pytest.raises(ImportRefused, match="--session"):
        await bring(to, folder, "native")


async def test_a_lost_blob_stops_going_on(to: Destination, tmp_path: Path) -> None:
    """An import that cannot read what it remembered is refused instead of going on with a guess."""
    folder = write_files(tmp_path / "c", pairs(4))
    await bring(to, folder)
    for blob in (tmp_path / "data" / "blobs").glob("??/*"):
        blob.unlink()
    with pytest.raises(LogCorrupt, match="restore it"):
        await bring(to, folder)


async def test_a_daemon_keeps_an_import_out(to: Destination, tmp_path: Path) -> None:
    """A data directory that is in use is refused, saying what to do."""
    with pytest.raises(DataDirectoryBusy, match="stop the daemon"):
        async with open_destination(tmp_path / "data"):
            pass


async def test_a_log_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    """Where only what was derived from a log is left, an import is refused: the log has to be restored."""
    (tmp_path / "projections.sqlite").write_bytes(b"")
    with pytest.raises(Refused, match="restore the log"):
        async with open_destination(tmp_path):
            pass


async def test_a_dry_run_writes_nothing(to: Destination, tmp_path: Path) -> None:
    """A dry run reports what an import would do, and the log and its blobs stay as they are."""
    folder = write_files(tmp_path / "c", pairs(300))
    report: list[Entry] = []
    [outcome] = await bring(to, folder, report=report, dry_run=True)
    assert (outcome.events, len(report), to.store.head) == (300, 300, 0)
    assert not list((tmp_path / "data" / "blobs").glob("??/*"))


async def test_damage_is_kept_and_told(to: Destination, tmp_path: Path) -> None:
    """Torn, empty and unknown records become opaque events with the reason; what is around them is not touched."""
    folder = write_files(tmp_path / "c", pairs(8))
    torn = (folder / "events" / "3.json").read_bytes()[:40]
    (folder / "events" / "3.json").write_bytes(torn)
    (folder / "events" / "4.json").write_bytes(b"")
    (folder / "events" / "5.json").write_bytes(b"\xff\xfe\x00garbage")
    (folder / "events" / "6.json").write_text('{"id": 6, "action": "warp", "args": {"to": NaN, "text": "\\ud800"}}')
    (folder / "events" / "7.json").write_text("[" * 100_000)
    report: list[Entry] = []
    [outcome] = await bring(to, folder, report=report)
    assert outcome.opaque == 5
    reasons = {entry.key: entry.opaque for entry in report if entry.opaque}
    assert "not JSON" in (reasons["3"] or "")
    assert reasons["4"] == "empty"
    assert "not UTF-8" in (reasons["5"] or "")
    assert "warp" in (reasons["6"] or "")
    assert set(reasons) == {"3", "4", "5", "6", "7"}
    kept = {entry.key: data for entry, data in await originals(to, "c")}
    assert kept["3"] == torn
    opaque = [event for event in await events_of(to.store, "c") if event.kind == "openhands.v0.opaque"]
    assert len(opaque) == 5
    assert not await to.store.verify()


async def test_big_events_become_blobs(to: Destination, tmp_path: Path) -> None:
    """A screenshot, a long output and a payload over every limit open, with their whole bytes to be had."""
    picture = "data:image/png;base64," + "QUJD" * 500_000
    huge = {"id": 4, "action": "delegate", "args": {"agent": "A", "inputs": {"x": "y" * (2 << 20)}}}
    events = [
        {"id": 0, "action": "browse", "args": {"url": "http://a"}},
        {
            "id": 1,
            "observation": "browse",
            "cause": 0,
            "content": "c" * 200_000,
            "extras": {"url": "u", "screenshot": picture},
        },
        run(2),
        ran(3, "z" * 300_000),
        huge,
    ]
    [outcome] = await bring(to, write_files(tmp_path / "c", events))
    assert outcome.opaque == 1
    _, browsed, _, printed, _ = [event for event in await events_of(to.store, "c") if event.category != "lifecycle"]
    shot = payload(browsed)["screenshot"]
    assert await to.blobs.size(shot) == 3 * 500_000
    assert await to.blobs.size(payload(browsed)["blobs"]["content"]) == 200_000
    assert await to.blobs.size(payload(printed)["output_digest"]) == 300_000
    for digest in (shot, payload(printed)["output_digest"]):
        assert await to.store.names_blob("default", "c", digest)


async def test_what_no_event_can_hold_ends_its_action_all_the_same(to: Destination, tmp_path: Path) -> None:
    """An end that is too large for an event is a short one with the same outcome, so that the action ends once."""
    tree: dict[str, Any] = {"id": 1, "observation": "browse", "cause": 0, "content": ""}
    tree["extras"] = {"url": "u", "axtree_object": {"nodes": ["n" * 100] * 20_000}}
    tool = {"id": 2, "action": "call_tool_mcp", "args": {"name": "f", "arguments": {"x": "y" * (2 << 20)}}}
    events = [{"id": 0, "action": "browse", "args": {"url": "http://a"}}, tree, tool]
    events.append({"id": 3, "observation": "mcp", "cause": 2, "content": "got", "extras": {}})
    report: list[Entry] = []
    await bring(to, write_files(tmp_path / "c", events), report=report)
    found = [event for event in await events_of(to.store, "c") if event.category != "lifecycle"]
    assert [event.kind for event in found] == ["browse", "browse", "openhands.v0.opaque", "call_tool_mcp"]
    assert (payload(found[1])["outcome"], payload(found[1])["reason"]) == ("ok", "not_in_event")
    assert [event.cause for event in found] == [None, found[0].id, None, found[2].id]
    assert report[1].lost == ("payload",)
    assert "1048576" in (report[2].opaque or "")


async def test_a_chunk_never_outgrows_a_commit(to: Destination, tmp_path: Path) -> None:
    """Small records that become large events make smaller chunks: no append is larger than the log's queue."""
    args = {"forgotten_events_start_id": 0, "forgotten_events_end_id": 8000}
    events = [{"id": number, "action": "condensation", "args": args} for number in range(120)]
    [outcome] = await bring(to, write_files(tmp_path / "c", events))
    assert (outcome.events, outcome.opaque) == (120, 0)
    marks = [event for event in await events_of(to.store, "c") if event.kind == "events_imported"]
    assert len(marks) > 5


async def test_names_of_files_that_are_not_utf8(to: Destination, tmp_path: Path) -> None:
    """A file whose name is not UTF-8 opens; its name shows what can be shown."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.json"))
    with open(path, "w") as stream:  # noqa: ASYNC230  # a few bytes
        json.dump(pairs(2), stream)
    [outcome] = await bring(to, path)
    assert outcome.session == "caf-"
    begun = (await events_of(to.store, outcome.session))[1]
    assert payload(begun)["source"].endswith("caf\ufffd.json")


async def test_several_sessions_at_once(to: Destination, tmp_path: Path) -> None:
    """A file store's root gives every conversation of nobody and of each user, under names that do not collide."""
    root = tmp_path / "root"
    write_files(root / "sessions" / "one", pairs(2))
    write_files(root / "users" / "ann" / "conversations" / "two", pairs(4))
    write_files(root / "users" / "bob" / "conversations" / "one", pairs(6))
    (root / "sessions" / "one" / "agent_state.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    found = {outcome.session: outcome.records for outcome in await bring(to, root)}
    assert found == {"one": 2, "two": 4, "one.bob": 6}
    assert all(not each.records for each in await bring(to, root))


async def test_pages_alone_give_the_same_as_files(to: Destination, tmp_path: Path) -> None:
    """A conversation of which only pages are there becomes the same events."""
    events = pairs(100)
    await bring(to, write_files(tmp_path / "files", events))
    for start in range(0, 100, 25):
        write_page(tmp_path / "pages", start, start + 25, events[start : start + 25])
    await bring(to, tmp_path / "pages")
    files, pages = await made(to.store, "files"), await made(to.store, "pages")
    assert [bytes(event.payload) for event in files] == [bytes(event.payload) for event in pages]
