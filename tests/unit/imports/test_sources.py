"""Where records come from: folders with files and pages, arrays, lines; damaged, doubled, linked and huge ones."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imports.conversations import pairs, ran, run, write_files, write_page

from chronicled.events.errors import ImportRefused, InvalidRequest
from chronicled.storage.imports import json_array
from chronicled.storage.imports.discovery import discover, session_name
from chronicled.storage.imports.openhands_folder import OpenHandsFolder
from chronicled.storage.imports.output_lines import output_lines
from chronicled.storage.imports.source import Record
from chronicled.storage.imports.times import utc_reader
from chronicled.storage.imports.trajectory import Trajectory


def keys(records: list[Record]) -> list[str]:
    """Return what the records are called."""
    return [record.key for record in records]


def problems(records: list[Record]) -> dict[str, str]:
    """Return what is wrong with records, by key."""
    return {record.key: record.problem for record in records if record.problem is not None}


def folder(path: Path) -> list[Record]:
    """Return the records of a conversation's folder."""
    return list(OpenHandsFolder(path).records())


def array(tmp_path: Path, data: bytes) -> list[Record]:
    """Return the records of a trajectory."""
    path = tmp_path / "t.json"
    path.write_bytes(data)
    return list(Trajectory(path).records())


def test_ids_have_holes_and_are_numbers(tmp_path: Path) -> None:
    """Events come in the order of their numbers, not of their names; holes are left out, other files not opened."""
    path = write_files(tmp_path / "c", [run(n) for n in (0, 2, 9, 10, 100)])
    (path / "events" / "agent_state.pkl").write_bytes(b"never")
    (path / "events" / "1.json.tmp").write_bytes(b"never")
    assert keys(folder(path)) == ["0", "2", "9", "10", "100"]


def test_numbers_that_nobody_writes_are_kept_aside(tmp_path: Path) -> None:
    """`007.json` is not taken for event 7, which would come twice: it is a record of its own that says so."""
    path = write_files(tmp_path / "c", [run(n) for n in (6, 7)])
    for name in ("007.json", "08.json", "\u0669.json"):
        (path / "events" / name).write_bytes(json.dumps(run(9)).encode())
    records = folder(path)
    assert keys(records) == ["@events/007.json", "@events/08.json", "@events/\u0669.json", "6", "7"]
    assert len(problems(records)) == 3
    assert all(record.data for record in records)


def test_reading_starts_again_at_a_record(tmp_path: Path) -> None:
    """Reading from a number gives the same as reading all and leaving out as many."""
    path = write_files(tmp_path / "c", pairs(10))
    source = OpenHandsFolder(path)
    assert list(source.records(4)) == list(source.records())[4:]


def test_a_page_in_the_wrong_order_is_read_by_ids(tmp_path: Path) -> None:
    """0.32.0 wrote pages backwards: the ids say what the order is."""
    events = pairs(25)
    path = write_page(tmp_path / "c", 0, 25, events[::-1])
    assert keys(folder(path)) == [str(n) for n in range(25)]


def test_files_and_pages_are_one_conversation(tmp_path: Path) -> None:
    """What stands in both is one record; what stands in either is there."""
    events = pairs(60)
    path = write_files(tmp_path / "c", [event for event in events if event["id"] not in {3, 30}])
    write_page(path, 0, 25, [event for event in events[:25] if event["id"] != 7])
    write_page(path, 25, 50, events[25:50])
    records = folder(path)
    assert keys(records) == [str(n) for n in range(60)]
    assert not problems(records)


def test_pages_that_begin_anywhere(tmp_path: Path) -> None:
    """Pages written after a restart begin at any id, and may overlap: each event is there once."""
    events = pairs(70)
    path = write_page(tmp_path / "c", 7, 32, events[7:32])
    write_page(path, 25, 50, events[25:50])
    write_page(path, 60, 70, events[60:70])
    write_files(path, events[:9])
    assert keys(folder(path)) == [str(n) for n in (*range(50), *range(60, 70))]


def test_two_copies_that_differ_are_both_kept(tmp_path: Path) -> None:
    """Two programs that wrote one conversation left two events under one id: the file's comes first, no one is lost."""
    path = write_files(tmp_path / "c", pairs(25))
    write_page(path, 0, 25, [ran(n, "another") if n == 3 else event for n, event in enumerate(pairs(25))])
    records = folder(path)
    assert keys(records)[3:5] == ["3", "3@event_cache/0-25.json"]
    assert b"output 3" in records[3].data
    assert "differs" in problems(records)["3@event_cache/0-25.json"]


def test_a_torn_file_is_made_good_by_its_page(tmp_path: Path) -> None:
    """Where the file is torn the page's copy is taken, and the torn bytes are kept beside it."""
    path = write_files(tmp_path / "c", pairs(25))
    write_page(path, 0, 25, pairs(25))
    (path / "events" / "5.json").write_bytes(b'{"id": 5, "act')
    records = folder(path)
    assert (records[5].key, records[5].place) == ("5", "event_cache/0-25.json")
    assert (records[6].key, records[6].data) == ("5@events/5.json", b'{"id": 5, "act')


def test_a_torn_page_gives_what_is_whole(tmp_path: Path) -> None:
    """Of a torn page its whole events are read, and the rest is a record of its own."""
    path = write_page(tmp_path / "c", 0, 25, pairs(25))
    page = path / "event_cache" / "0-25.json"
    page.write_bytes(page.read_bytes()[:700])
    records = folder(path)
    whole = [record for record in records if record.problem is None]
    assert keys(whole) == [str(n) for n in range(len(whole))]
    assert len(whole) >= 2
    assert len(records) == len(whole) + 1


def test_masked_ids_are_found_by_their_place(tmp_path: Path) -> None:
    """A mask in the place of an id does not lose the event."""
    events = pairs(3)
    events[1]["id"] = "<secret_hidden>"
    assert keys(folder(write_page(tmp_path / "c", 0, 25, events))) == ["0", "1", "2"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link is told and not read, wherever it points; a folder of events that is a link is no folder of events."""
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(run(1, "cat /etc/shadow")))
    path = write_files(tmp_path / "c", [run(0)])
    (path / "events" / "1.json").symlink_to(secret)
    os.mkfifo(path / "events" / "2.json")
    (path / "events" / "3.json").mkdir()
    records = folder(path)
    assert problems(records) == {
        "1": "is a symbolic link, which is not followed",
        "2": "is no file",
        "3": "is no file",
    }
    assert not any(b"shadow" in record.data for record in records)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "events").symlink_to(path / "events")
    with pytest.raises(ImportRefused):
        folder(linked)


def test_an_array_gives_its_bytes(tmp_path: Path) -> None:
    """Each item is yielded as the bytes that stood there, whatever the spacing, and is known by its id."""
    records = array(tmp_path, b'\xef\xbb\xbf [ {"id" : 0, "action":"x"} ,\n {"id":3}\t,[1, 2],{"id":3} ] ')
    assert [record.data for record in records] == [b'{"id" : 0, "action":"x"}', b'{"id":3}', b"[1, 2]", b'{"id":3}']
    assert keys(records) == ["0", "3", "@2", "@3"]


def test_a_torn_array_gives_what_is_whole(tmp_path: Path) -> None:
    """Wherever an array is cut, every whole item before the cut is there, and what is left is kept."""
    data = json.dumps(pairs(6)).encode()
    for cut in range(len(data)):
        records = array(tmp_path, data[:cut])
        whole = [record for record in records if record.problem is None]
        assert keys(whole) == [str(n) for n in range(len(whole))]
        assert len(records) == len(whole) + 1


def test_reading_goes_on_behind_a_damaged_item(tmp_path: Path) -> None:
    """A damaged item in the middle costs itself and not what follows."""
    items = [json.dumps(event) for event in pairs(6)]
    items[2] = items[2].replace('"action"', '"action')
    records = array(tmp_path, f"[{','.join(items)}]".encode())
    assert len(problems(records)) == 1
    assert {"0", "1", "3", "4", "5"} <= set(keys(records))


@pytest.mark.parametrize("lets_go", [True, False])
def test_damage_everywhere_is_read_near_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lets_go: bool
) -> None:
    """What is done is let go of: a decoder looks at all that stands before damage. Negative control: it would here."""
    if not lets_go:
        monkeypatch.setattr(json_array, "DONE_CHARACTERS", 1 << 30)
    places: list[int] = []
    decode = json.JSONDecoder.raw_decode

    def watched(self: json.JSONDecoder, text: str, at: int = 0) -> Any:
        places.append(at)
        return decode(self, text, at)

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", watched)
    records = array(tmp_path, b"[" + b'{bad},{"action":"run","id":1},' * 8000 + b"{}]")
    assert len(records) == 16_001
    assert (max(places) < 2 * (1 << 16)) == lets_go


def test_other_forms_of_a_trajectory(tmp_path: Path) -> None:
    """The web interface's objects, a single event, and an event on each line open too."""
    events = pairs(4)
    for name in ("trajectory", "events", "history"):
        assert keys(array(tmp_path, json.dumps({name: events, "has_more": False}).encode())) == ["0", "1", "2", "3"]
    assert keys(array(tmp_path, json.dumps(events[0]).encode())) == ["0"]
    lines = tmp_path / "events.jsonl"
    lines.write_text("\n".join(json.dumps(event) for event in events))
    [source] = discover(lines)[1]
    assert keys(list(source.records())) == ["0", "1", "2", "3"]


def test_an_array_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A file of 40 MB is read in a few MB."""
    path = tmp_path / "big.json"
    with path.open("w") as stream:
        stream.write("[")
        for n in range(20_000):
            stream.write(("," if n else "") + json.dumps(ran(n, "x" * 1900)))
        stream.write("]")
    tracemalloc.start()
    try:
        count = sum(1 for _ in Trajectory(path).records())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 20_000
    assert peak < 16 << 20


def test_lines_become_sessions(tmp_path: Path) -> None:
    """Each line of an evaluation's output is a session of its own; a torn line and one without a history are too."""
    path = tmp_path / "output.jsonl"
    lines: list[dict[str, Any]] = [
        {"instance_id": "a/b 1", "history": [[run(0), ran(1)]], "error": None},
        {"instance_id": "a/b 1", "history": None},
        {"issue": {"owner": "o", "repo": "r", "number": 5}, "history": []},
        {"instance_id": "", "history": "no array"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"instance_id": "torn", "hist')
    sources = list(output_lines(path))
    assert [source.name for source in sources] == ["a-b-1", "a-b-1.2", "o-r-5", "output-4", "output-5"]
    assert [keys(list(source.records())) for source in sources] == [
        ["@instance", "@0"],
        ["@instance"],
        ["@instance"],
        ["@instance", "@history"],
        ["@instance"],
    ]
    assert "torn" in str(problems(list(sources[4].records())))


@pytest.mark.parametrize(
    "members",
    [
        b'"instance_id":"\xff"',
        b'"instance_id":"x","issue_type":"\xff"',
        b'"issue":{"owner":"\xff","repo":"r","number":1}',
    ],
)
def test_a_line_that_is_not_utf8_does_not_keep_others_out(tmp_path: Path, members: bytes) -> None:
    """What names an instance may be damaged like anything else: it is left out, and every line is a session."""
    path = tmp_path / "output.jsonl"
    history = json.dumps([run(0)]).encode()
    path.write_bytes(b'{%s,"history":%s}\n{"instance_id":"good","history":"\xff"}\n' % (members, history))
    sources = list(output_lines(path))
    assert [len(list(source.records())) for source in sources] == [2, 2]
    assert sources[1].name == "good"


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Nobody writes to it: opening it as a file is opened would wait for ever."""
    os.mkfifo(tmp_path / "t.json")
    with pytest.raises(ImportRefused, match="no file"):
        discover(tmp_path / "t.json")


def test_what_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    """Nothing there, nothing known there, and a format that there is not: each says what to do."""
    with pytest.raises(ImportRefused, match="nothing at"):
        discover(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ImportRefused, match="name a session's folder"):
        discover(tmp_path / "notes.txt")
    with pytest.raises(ImportRefused, match="no format"):
        discover(tmp_path, "openhands.v9")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"a": 1}', b"rubbish", b'{"steps": [{"source": "agent", "observation": {"results": []}}]}'],
)
def test_a_guess_is_not_enough(tmp_path: Path, data: bytes) -> None:
    """A file in which nothing tells of a format is imported only by whoever says what it is: it stays in the log."""
    path = tmp_path / "some.json"
    path.write_bytes(data)
    with pytest.raises(ImportRefused, match=r"--format openhands\.v0"):
        discover(path)
    assert discover(path, "openhands.v0")[0].name == "openhands.v0"


def test_names_become_names_of_sessions() -> None:
    """Whatever a source is called, its session has a name that the log can hold."""
    assert session_name("astropy__astropy-1") == "astropy__astropy-1"
    assert session_name("a b/ü") == "a-b-"
    assert session_name("..") == "imported"
    assert len(session_name("x" * 500)) == 128


def test_times_are_read_in_their_zone_and_never_guessed() -> None:
    """Without a zone a time stays what it was; what is no time is none."""
    berlin, nowhere = utc_reader("Europe/Berlin"), utc_reader(None)
    assert berlin("2025-07-01T12:00:00.5") == "2025-07-01T10:00:00.500000Z"
    assert berlin("2025-10-26T02:30:00") == "2025-10-26T00:30:00.000000Z"
    assert nowhere("2025-07-01T12:00:00.5") is None
    assert nowhere("2025-07-01T12:00:00+02:00") == "2025-07-01T10:00:00.000000Z"
    assert berlin("<secret_hidden>") is None
    assert berlin("0001-01-01T00:00:00") is None
    with pytest.raises(InvalidRequest):
        utc_reader("Mars/Base")
