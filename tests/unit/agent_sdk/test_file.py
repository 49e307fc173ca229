"""Events of the agent SDK in files: arrays, a server's pages, an event a line, evaluations, archives, other folders."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agent_sdk.records import FIXTURES, FOLDERS, action, observation, values_of
from tests.unit.imports.conversations import bring, events_of, originals

from chronicled.events.errors import ImportRefused
from chronicled.migrations.conversion import Ids
from chronicled.storage.imports import agent_sdk_archive
from chronicled.storage.imports.agent_sdk_file import keyed_by_id
from chronicled.storage.imports.chunk import Entry
from chronicled.storage.imports.destination import Destination, open_destination
from chronicled.storage.imports.discovery import discover
from chronicled.storage.imports.json_array import Item

CONVERSATION = "conversation-1.58.0"
VALUES = values_of(CONVERSATION)
RESULT = {"instance_id": "a__b-1", "history": VALUES, "test_result": {"patch": "x"}, "error": None}


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Destination]:
    """A data directory that nobody else uses."""
    (tmp_path / "data").mkdir()
    async with open_destination(tmp_path / "data") as destination:
        yield destination


def lines(*values: Any) -> str:
    """Return a value on each line."""
    return "".join(json.dumps(value) + "\n" for value in values)


FILES: list[tuple[str, str, int]] = [
    ("events.json", json.dumps(VALUES), 0),
    ("pretty.json", json.dumps(VALUES, indent=2), 0),
    ("page.json", json.dumps({"items": VALUES, "next_page_id": None}), 0),
    ("half.json", json.dumps({"items": VALUES, "next_page_id": "more"}), 1),
    ("events.jsonl", lines(*VALUES), 0),
    ("output.jsonl", lines(RESULT), 1),
    ("late.jsonl", lines({"instance_id": "none", "history": []}, RESULT), 1),
]


@pytest.mark.parametrize(("name", "text", "beside"), FILES, ids=[name for name, *_ in FILES])
async def test_a_file_becomes_what_its_folder_becomes(
    to: Destination, tmp_path: Path, name: str, text: str, beside: int
) -> None:
    """Whatever they stand in, the same events come of the same records, with their bytes; what is beside is kept."""
    (tmp_path / name).write_text(text)
    outcome = (await bring(to, tmp_path / name))[-1]
    assert (outcome.format, outcome.records, outcome.opaque) == ("openhands.v1", len(VALUES) + beside, 0)
    [folder] = await bring(to, FIXTURES / CONVERSATION, "folder")
    assert outcome.kinds == folder.kinds
    kept = [json.loads(data) for entry, data in await originals(to, outcome.session) if entry.key != "@instance"]
    assert kept == VALUES
    causes = {event.cause is not None for event in await events_of(to.store, outcome.session)}
    assert causes == {True, False}
    assert not await to.store.verify()


async def test_what_stands_beside_the_events_is_a_record(to: Destination, tmp_path: Path) -> None:
    """How an instance went wrong is a notice, all else of it is told to be in the original alone."""
    (tmp_path / "output.jsonl").write_text(lines({**RESULT, "error": "out of time"}))
    report: list[Entry] = []
    [outcome] = await bring(to, tmp_path / "output.jsonl", report=report)
    assert outcome.session == "a__b-1"
    assert (report[0].key, report[0].kinds, set(report[0].lost)) == (
        "@instance",
        ("notice",),
        {"instance_id", "test_result"},
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v0.json", json.dumps([{"id": 0, "action": "run", "args": {"command": "ls"}}, *VALUES])),
        ("v0.jsonl", lines({"id": 0, "observation": "null", "content": "", "extras": {}})),
        ("v0-output.jsonl", lines({"instance_id": "a", "history": [{"action": "run", "command": "ls"}]})),
    ],
)
def test_a_file_of_v0_stays_one(tmp_path: Path, name: str, text: str) -> None:
    """The first event that is known says which of the two it is."""
    (tmp_path / name).write_text(text)
    assert discover(tmp_path / name)[0].name == "openhands.v0"


def test_ids_are_keys_once() -> None:
    """The second of one id, and what has none, is known by its number: no key comes twice."""
    items = [b'{"id": "a"}', b'{"id": "a"}', b'{"id": 7}', b"[]", b'{"id": "a\\u0000"}', b'{"id": ""}']
    keys = [record.key for record in keyed_by_id(map(Item, items), "f")]
    assert keys == ["a", "1-a", "@2", "@3", "@4", "@5"]
    assert [record.key for record in keyed_by_id([Item(b"", "torn")], "f")] == ["@0"]


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, data in files.items():
            stream.writestr(name, data)
    return path


def exported(values: list[Any]) -> dict[str, bytes]:
    """Return the files of an export of the web interface."""
    files = {
        f"event_{number:06}_{value['id']}.json": json.dumps(value, indent=2).encode()
        for number, value in enumerate(values)
    }
    return {**files, "meta.json": b'{"id": "c0ffee", "llm_model": "test-model", "title": "t"}'}


@pytest.mark.parametrize("folder", FOLDERS)
async def test_an_export_of_the_web_interface_opens(to: Destination, tmp_path: Path, folder: str) -> None:
    """Packed or unpacked, it becomes what the conversation's folder becomes; its `meta.json` gives labels."""
    values = values_of(folder)
    path = archive(tmp_path / "export.zip", exported(values))
    [packed] = await bring(to, path)
    assert (packed.session, packed.records, packed.opaque) == ("export", len(values), 0)
    with zipfile.ZipFile(path) as stream:
        stream.extractall(tmp_path / "unpacked")
    [unpacked] = await bring(to, tmp_path / "unpacked")
    [original] = await bring(to, FIXTURES / folder)
    assert packed.kinds == unpacked.kinds == original.kinds
    created = (await events_of(to.store, "export"))[0]
    assert json.loads(bytes(created.payload))["labels"] == {"conversation": "c0ffee", "model": "test-model"}
    assert (await bring(to, path))[0].records == 0


async def test_an_archive_of_many_conversations(to: Destination, tmp_path: Path) -> None:
    """Each folder in it is a session of its own name, as the agent server packs them."""
    event = json.dumps(action() | {"id": "a"}).encode()
    files = {f"{name}/events/event-00000-a.json": event for name in ("one", "two/event_service")}
    files["one/base_state.json"] = b'{"id": "1"}'
    files["readme.txt"] = b"not of it"
    outcomes = await bring(to, archive(tmp_path / "all.zip", files))
    assert [(outcome.session, outcome.records) for outcome in outcomes] == [("one", 1), ("two", 1)]


async def test_a_damaged_archive_is_told(to: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in it that cannot be unpacked, or is too large when it is, is a record with its problem; never the end."""
    files = {f"event_{number:06}_{number}.json": json.dumps(action(number)).encode() for number in range(3)}
    path = archive(tmp_path / "a.zip", {**files, "event_x.json": b"{}", "event_000003_3.json": b" " * 4096})
    data = bytearray(path.read_bytes())
    at = data.index(b"event_000001_1.json") + len("event_000001_1.json")
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    monkeypatch.setattr(agent_sdk_archive, "RECORD_BYTES_MAX", 2048)
    report: list[Entry] = []
    [outcome] = await bring(to, path, report=report)
    assert (outcome.records, outcome.opaque) == (5, 3)
    told = {entry.key: entry.opaque for entry in report if entry.opaque}
    assert "cannot be unpacked" in (told["1"] or "")
    assert "has more than 2048 bytes" in (told["3"] or "")
    assert "not named as that of an event" in (told["@event_x.json"] or "")


@pytest.mark.parametrize("data", [b"PK\x03\x04 and nothing", b"PK\x05\x06"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    """What only begins as one is refused by name, and so is one without a conversation."""
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ImportRefused, match=r"a\.zip"):
        discover(tmp_path / "a.zip")
    archive(tmp_path / "b.zip", {"readme.txt": b"x"})
    with pytest.raises(ImportRefused, match=r"b\.zip"):
        discover(tmp_path / "b.zip")


@pytest.mark.parametrize(
    "place", ["conversations/one/event_service", "v1_conversations/one", "somebody/v1_conversations/one", "one"]
)
async def test_servers_keep_conversations_in_folders_of_theirs(to: Destination, tmp_path: Path, place: str) -> None:
    """From above, a conversation is found where a release of a server puts it, under its own name."""
    shutil.copytree(FIXTURES / CONVERSATION, tmp_path / "store" / place)
    [outcome] = await bring(to, tmp_path / "store")
    assert (outcome.session, outcome.records) == ("one", len(VALUES))
    [again] = await bring(to, tmp_path / "store" / place)
    assert (again.session, again.earlier) == ("one", len(VALUES))


async def test_two_of_one_name_are_two_sessions(to: Destination, tmp_path: Path) -> None:
    """Users of the web interface may have conversations of one name: the second has its user's name with it."""
    for number, user in enumerate(("ann", "bob")):
        folder = tmp_path / "store" / user / "v1_conversations" / "talk" / "events"
        folder.mkdir(parents=True)
        for value in (action(number), observation(number, exit_code=0)):
            (folder / f"event-00000-{value['id']}.json").write_text(json.dumps(value))
    outcomes = await bring(to, tmp_path / "store")
    assert [(outcome.session, outcome.records) for outcome in outcomes] == [("talk", 2), ("talk.bob", 2)]


async def test_a_file_that_has_grown_is_carried_on(to: Destination, tmp_path: Path) -> None:
    """An event a line: what came to it is imported behind what is there, also while an action is open."""
    path = tmp_path / "events.jsonl"
    path.write_text(lines(action(1)))
    await bring(to, path)
    path.write_text(lines(action(1), observation(1, exit_code=0)))
    [outcome] = await bring(to, path)
    assert (outcome.earlier, outcome.records) == (1, 1)
    assert Ids("default", "events").of("observation-1") in {e.id for e in await events_of(to.store, "events")}
