"""Folders of the agent SDK come into the log once and whole, with their original bytes, whatever lies in them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agent_sdk.records import FIXTURES, FOLDERS, action, observation

from chronicled.events.codec import Codec
from chronicled.events.errors import ImportRefused, SourceChanged
from chronicled.events.store import Filter
from chronicled.migrations.conversion import Ids
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.exports.log_chronicle import LogChronicle
from chronicled.storage.imports.agent_sdk_folder import AgentSdkFolder
from chronicled.storage.imports.chunk import Entry
from chronicled.storage.imports.destination import Destination, open_destination
from chronicled.storage.imports.discovery import discover
from chronicled.storage.imports.importer import Importer, ImportOptions, Outcome

WORDS = vocabulary()


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Destination]:
    """A data directory that nobody else uses."""
    (tmp_path / "data").mkdir()
    async with open_destination(tmp_path / "data") as destination:
        yield destination


async def bring(to: Destination, path: Path, report: list[Entry] | None = None) -> list[Outcome]:
    """Import what is at the path."""

    def note(session: str, entry: Entry) -> None:
        if report is not None:
            report.append(entry)

    importer = Importer(to.store, to.blobs, Codec(WORDS.registry, WORDS.chain), None, note)
    format, sources = discover(path)
    assert format.name == "openhands.v1"
    return [await importer.run(each, format.conversion(), each.name, ImportOptions()) for each in sources]


def write(folder: Path, *values: dict[str, Any], first: int = 0) -> Path:
    """Write events as the SDK names them."""
    (folder / "events").mkdir(parents=True, exist_ok=True)
    for number, value in enumerate(values, first):
        (folder / "events" / f"event-{number:05}-{value['id']}.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize("folder", FOLDERS)
async def test_a_conversation_becomes_a_session_once(to: Destination, folder: str) -> None:
    """Every record is imported, the log verifies, and a second import adds nothing."""
    [outcome] = await bring(to, FIXTURES / folder)
    count = len(list((FIXTURES / folder / "events").glob("event-*.json")))
    assert (outcome.records, outcome.opaque) == (count, 0)
    head = to.store.head
    [again] = await bring(to, FIXTURES / folder)
    assert (again.records, again.earlier, to.store.head) == (0, count, head)
    assert not await to.store.verify()
    # Without an end in the source, without one in the log: nothing is left that could be run.
    page = await to.store.read(0, 1000, Filter("default", folder))
    runnable = [
        event
        for event in page.events
        if (spec := WORDS.registry.find_current(event.category, event.kind)) is not None and spec.runnable
    ]
    assert runnable
    assert all([await to.store.terminal("default", event.id) for event in runnable])


async def test_original_bytes_ids_and_times_are_kept(to: Destination, tmp_path: Path) -> None:
    """Of each event the record's bytes, its id and its time can be had again."""
    report: list[Entry] = []
    await bring(to, FIXTURES / "conversation-1.58.0", report)
    files = sorted((FIXTURES / "conversation-1.58.0" / "events").glob("event-*.json"))
    with LogChronicle(tmp_path / "data", "default", "conversation-1.58.0", WORDS.registry, WORDS.chain) as chronicle:
        origins = {item.origin.key: item for item in chronicle.items() if item.origin is not None}
        for path, entry in zip(files, report, strict=True):
            assert entry.place == f"events/{path.name}"
            if not entry.events:
                continue
            item = origins[entry.key]
            assert item.origin is not None
            assert chronicle.original(item.origin) == path.read_bytes()
            assert item.time == json.loads(path.read_bytes())["timestamp"]
            assert Ids("default", "conversation-1.58.0").of(entry.key) in entry.events


async def test_the_state_gives_labels(to: Destination) -> None:
    """Who the agent was stands with the session; nothing else of the state is taken."""
    await bring(to, FIXTURES / "conversation-1.58.0")
    page = await to.store.read(0, 1, Filter("default", "conversation-1.58.0"))
    payload = json.loads(bytes(page.events[0].payload))
    assert payload["runtime"] == "imported"
    assert payload["labels"] == {
        "conversation": "0a0b0c0d-0000-4000-8000-000000000001",
        "agent": "Agent",
        "model": "test-model",
    }


async def test_what_has_grown_is_carried_on(to: Destination, tmp_path: Path) -> None:
    """An import goes on behind what it has, also where an action was under way; what has changed is refused."""
    folder = write(tmp_path / "c", action(1), observation(1, exit_code=0), action(2))
    await bring(to, folder)
    write(folder, observation(2, exit_code=0), first=3)
    [outcome] = await bring(to, folder)
    assert (outcome.earlier, outcome.records) == (3, 1)
    assert not await to.store.verify()
    (folder / "events" / "event-00000-action-1.json").write_text(json.dumps(action(1, command="other")))
    with pytest.raises(SourceChanged, match="action-1"):
        await bring(to, folder)


async def test_odd_files_are_records_or_none_at_all(to: Destination, tmp_path: Path) -> None:
    """Torn, empty and linked files are opaque records in their places; locks and strangers are none; gaps are fine.

    A file that is named nearly as an event is a record too, before all others: nothing that may be one is dropped.
    """
    folder = write(tmp_path / "c", action(1), first=7)
    events = folder / "events"
    (events / "event-00008-torn0000.json").write_text('{"kind": "Obs')
    (events / "event-00009-empty000.json").write_bytes(b"")
    (tmp_path / "secret").write_text(json.dumps(action(9)))
    (events / "event-00010-link0000.json").symlink_to(tmp_path / "secret")
    (events / ".eventlog.lock").touch()
    (events / "notes.txt").write_text("x")
    (events / os.fsdecode(b"event-00011-\xff\xfe\n.json")).write_text("{}")
    write(folder, observation(1, exit_code=0), first=100_000)
    report: list[Entry] = []
    [outcome] = await bring(to, folder, report)
    assert (outcome.records, outcome.opaque) == (6, 4)
    assert [entry.opaque is not None for entry in report] == [True, False, True, True, True, False]
    assert report[0].key == "@events/event-00011-\\udcff\\udcfe\n.json"
    assert "symbolic link" in str(report[4].opaque)
    assert report[-1].kinds == ("run",)


async def test_two_events_of_one_id_are_two_records(to: Destination, tmp_path: Path) -> None:
    """Two writers left the same id twice: both are kept, others mean the first."""
    folder = write(tmp_path / "c", action(1), observation(1, exit_code=0), action(1))
    [outcome] = await bring(to, folder)
    assert (outcome.records, outcome.opaque) == (3, 0)
    assert [record.key for record in AgentSdkFolder(folder).records(1)] == ["observation-1", "2-action-1"]
    assert not await to.store.verify()


async def test_a_folder_of_conversations_is_taken_whole(to: Destination, tmp_path: Path) -> None:
    """Each conversation under the folder is a session; the events' own folder stands for its conversation."""
    for name in ("one", "two"):
        shutil.copytree(FIXTURES / "kinds-1.2.0", tmp_path / "all" / name)
    assert [outcome.session for outcome in await bring(to, tmp_path / "all")] == ["one", "two"]
    assert [outcome.session for outcome in await bring(to, tmp_path / "all" / "one" / "events")] == ["one"]


@pytest.mark.parametrize("suffix", ["", ".json"])
async def test_the_app_server_keeps_the_same_events_in_files_of_other_names(
    to: Destination, tmp_path: Path, suffix: str
) -> None:
    """What the app server wrote is the same conversation: names to the second, order from the events themselves."""
    folder = tmp_path / "conversations" / "0a0b0c0d-0000-4000-8000-000000000001"
    folder.mkdir(parents=True)
    for path in sorted((FIXTURES / "conversation-1.58.0" / "events").glob("event-*.json")):
        value = json.loads(path.read_bytes())
        second = value["timestamp"][:19].translate(str.maketrans("", "", "-:T"))
        name = f"{second}_{value['kind']}_{value['id'].replace('-', '')}{suffix}"
        (folder / name).write_text(json.dumps(value | {"parent_id": None}, indent=2))
    [outcome] = await bring(to, folder.parent)
    [sdk] = await bring(to, FIXTURES / "conversation-1.58.0")
    assert (outcome.session, outcome.records, outcome.opaque) == (folder.name, sdk.records, 0)
    assert outcome.kinds == sdk.kinds
    [again] = await bring(to, folder)
    assert (again.records, again.earlier) == (0, sdk.records)


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """There is no folder, and the error says so."""
    with pytest.raises(ImportRefused, match="cannot be read"):
        AgentSdkFolder(tmp_path / "nowhere")
