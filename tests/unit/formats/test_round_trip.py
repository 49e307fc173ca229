"""OpenHands V0, into the log and out again: the same but for differences that are listed here, each with a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from tests.unit.formats import atif_schema
from tests.unit.formats.logs import SESSION, Chapter, chronicle, exported
from tests.unit.formats.v0_schema import check
from tests.unit.imports.v0_rows import ROWS, Row

from chronicled.events.codec import Codec
from chronicled.events.kinds import actions, observations
from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.formats import atif, openhands_v0
from chronicled.migrations.formats.chronicle import Chronicle
from chronicled.migrations.formats.openhands_v0_originals import NAMELESS
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.imports.destination import open_destination
from chronicled.storage.imports.discovery import discover, session_name
from chronicled.storage.imports.importer import Importer, ImportOptions

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "openhands"
WORDS: Final = vocabulary()

NEWER: Final = "0.62 has a field that the release which wrote the record did not have yet: written with its default"
REMOVED: Final = "0.62 has no such field any more, and would refuse it"
EMPTY: Final = "nothing, said in another way: 0.62's default for it"
MOVED: Final = "the steps of the import moved it to where 0.62 has it"
ALLOWED: Final = {
    "args.security_risk added": NEWER,
    "args.file_urls added": NEWER,
    "args.view_range added": NEWER,
    "args.cwd added": NEWER,
    "args.is_static added": NEWER,
    "args.final_thought added": NEWER,
    "extras.reason added": NEWER,
    "extras.diff added": NEWER,
    "extras.conversation_instructions added": NEWER,
    "extras.custom_secrets_descriptions added": NEWER,
    "extras.repo_branch added": NEWER,
    "extras.working_dir added": NEWER,
    "args.translated_ipython_code gone": REMOVED,
    "extras.formatted_output_and_error gone": REMOVED,
    "args.task_completed gone": REMOVED,
    "args.outputs.task_completed added": MOVED,
    "args.command added": MOVED,
    "args.file_text added": MOVED,
    "args.old_str added": NEWER,
    "args.new_str added": NEWER,
    "args.insert_line added": NEWER,
    "args.image_urls changed": EMPTY,
    "extras.metadata.py_interpreter_path changed": EMPTY,
    "args.view_range changed": "all lines of a file are no range of it",
}
GONE: Final = {
    "null": "says nothing, and OpenHands leaves it out of trajectories itself",
    "think": "says nothing that the thought before it did not say",
}


def histories() -> Iterator[tuple[str, list[Any]]]:
    """Yield every history of the fixtures, by the name of its session."""
    for path in sorted(FIXTURES.glob("*.json")):
        yield path.stem, json.loads(path.read_bytes())
    for line in (FIXTURES / "multi_swe_bench_output.jsonl").read_text().splitlines():
        found = json.loads(line)
        yield session_name(found["instance_id"]), found["history"]


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield where two values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  decoded JSON
            where = f"{path}.{name}" if path else str(name)  # pyright: ignore[reportUnknownArgumentType]  decoded JSON
            if name not in before:
                yield f"{where} added"
            elif name not in after:
                yield f"{where} gone"
            else:
                yield from differences(before[name], after[name], where)
    elif before != after:
        yield f"{path} changed"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Import every fixture into one log."""
    import anyio

    folder = tmp_path_factory.mktemp("data")

    async def bring() -> None:
        async with open_destination(folder) as to:
            importer = Importer(to.store, to.blobs, Codec(WORDS.registry, WORDS.chain))
            for path in sorted(FIXTURES.glob("*.json*")):
                format, sources = discover(path)
                for source in sources:
                    await importer.run(source, format.conversion(), session_name(source.name), ImportOptions())

    anyio.run(bring)
    return folder


@pytest.mark.parametrize(("session", "history"), list(histories()), ids=[name for name, _ in histories()])
def test_what_went_in_comes_out(data: Path, session: str, history: list[Any]) -> None:
    """Each event has its id, cause, time and source again, and differs only where the list above says why."""
    events: list[dict[str, Any]] = json.loads(exported(data, openhands_v0.write, session)[0])
    check(events)
    after = {event["id"]: event for event in events}
    wanted = [event for event in history if event.get("observation") not in GONE]
    # Beside its events, a result of an evaluation has an error in words, which has no id.
    assert [id for id in after if id < NAMELESS] == [event["id"] for event in wanted]
    found = {difference for event in wanted for difference in differences(event, after[event["id"]])}
    assert found <= ALLOWED.keys()


def test_every_difference_that_is_allowed_occurs(data: Path) -> None:
    """The list is no wider than it has to be."""
    found: set[str] = set()
    for session, history in histories():
        after = {event["id"]: event for event in json.loads(exported(data, openhands_v0.write, session)[0])}
        for event in history:
            if event.get("observation") not in GONE:
                found |= set(differences(event, after[event["id"]]))
    assert found == ALLOWED.keys()


@pytest.mark.parametrize("file", ["resolver_output", "feedback"])
def test_histories_in_forms_of_long_ago_come_out_as_events(data: Path, file: str) -> None:
    """What OpenHands cannot read itself any more, it can read when it went through here."""
    lines = (FIXTURES / f"{file}.jsonl").read_text().splitlines()
    names = [name for name in _sessions(data) if name.startswith("feedback") == (file == "feedback")]
    names = [name for name in names if name not in {name for name, _ in histories()}]
    assert len(names) == len(lines)
    for name in names:
        events = json.loads(exported(data, openhands_v0.write, name)[0])
        check(events)
        assert len(events) >= 8


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.release} {row.name}" for row in ROWS])
def test_every_shape_comes_out_as_events_of_0_62(tmp_path: Path, row: Row) -> None:
    """Whatever a record looked like, once it went through here OpenHands loads what is made of it."""
    import anyio

    (tmp_path / "row.json").write_text(json.dumps(row.records))
    (tmp_path / "data").mkdir()

    async def bring() -> None:
        async with open_destination(tmp_path / "data") as to:
            format, sources = discover(tmp_path / "row.json", "openhands.v0")
            importer = Importer(to.store, to.blobs, Codec(WORDS.registry, WORDS.chain))
            for source in sources:
                await importer.run(source, format.conversion(), "row", ImportOptions())

    anyio.run(bring)
    events = json.loads(exported(tmp_path / "data", openhands_v0.write, "row")[0])
    # What named an action that was not there still does.
    check(events, whole="without its action" not in row.name)
    assert bool(events) == bool(row.kinds)


def test_what_the_model_cost_is_told(data: Path) -> None:
    """An imported session's trajectory has the running totals that OpenHands kept with its events."""
    session, history = next(
        each for each in histories() if each[1][-1].get("llm_metrics") or each[0].startswith("pony")
    )
    metrics = [event["llm_metrics"] for event in history if event.get("llm_metrics")][-1]
    found = json.loads(exported(data, atif.write, session)[0])
    atif_schema.check(found)
    totals = found["final_metrics"]
    assert totals["total_cost_usd"] == metrics["accumulated_cost"]
    assert totals["total_prompt_tokens"] == metrics["accumulated_token_usage"]["prompt_tokens"]
    assert found["agent"]["name"] == "CodeActAgent"


def test_a_second_time_nothing_changes(data: Path, tmp_path: Path) -> None:
    """What was exported is imported and exported again, and is the same."""
    import anyio

    text, _ = exported(data, openhands_v0.write, "basic_interactions")
    (tmp_path / "again.json").write_bytes(text)
    (tmp_path / "data").mkdir()

    async def bring() -> None:
        async with open_destination(tmp_path / "data") as to:
            format, sources = discover(tmp_path / "again.json")
            importer = Importer(to.store, to.blobs, Codec(WORDS.registry, WORDS.chain))
            for source in sources:
                await importer.run(source, format.conversion(), "again", ImportOptions())

    anyio.run(bring)
    assert json.loads(exported(tmp_path / "data", openhands_v0.write, "again")[0]) == json.loads(text)


def test_a_session_of_ours_comes_back(tmp_path: Path) -> None:
    """What ran here, taken out as a trajectory and brought in again, says the same in the same kinds."""
    import anyio

    chapter = Chapter()
    chapter.action("message", actions.Message(content="please", role="user", image_urls=["https://example.org/a.png"]))
    run = chapter.action("run", actions.Run(command="ls", timeout_seconds=5.0, thought="look", security_risk="low"))
    ended: dict[str, Any] = {
        "outcome": Outcome.FAILED,
        "effects": Effects.COMPLETE,
        "exit_code": 2,
        "working_directory": "/w",
    }
    chapter.end("run", run, observations.RunObservation(output="x" * 50_000, output_bytes=50_000, **ended))
    edit = chapter.action("edit", actions.Edit(path="a", command="str_replace", old_str="x", new_str="y"))
    done: dict[str, Any] = {"outcome": Outcome.OK, "effects": Effects.COMPLETE}
    chapter.end("edit", edit, observations.EditObservation(path="a", content="done", diff="-x\n+y\n", **done))
    call = chapter.action("call_tool_mcp", actions.CallToolMcp(name="search", arguments={"q": [1]}))
    chapter.end("call_tool_mcp", call, observations.CallToolMcpObservation(name="search", content="found", **done))
    chapter.action("finish", actions.Finish(final_thought="bye", outputs={"a": 1}))
    (tmp_path / "there").mkdir()
    (tmp_path / "back").mkdir()
    anyio.run(chapter.write, tmp_path / "there")
    text, _ = exported(tmp_path / "there", openhands_v0.write)
    (tmp_path / "session.json").write_bytes(text)

    async def bring() -> None:
        async with open_destination(tmp_path / "back") as to:
            format, sources = discover(tmp_path / "session.json")
            importer = Importer(to.store, to.blobs, Codec(WORDS.registry, WORDS.chain))
            for source in sources:
                await importer.run(source, format.conversion(), SESSION, ImportOptions())

    anyio.run(bring)
    with chronicle(tmp_path / "there") as before, chronicle(tmp_path / "back") as after:
        pairs = zip(_told(before), _told(after), strict=True)
        for (kind, one), (same, other) in pairs:
            assert kind == same
            # What was printed came back as a blob: it is compared below.
            printed = {name: one[name] for name in one if name.startswith("output") or name == "truncated"}
            assert one.items() <= {**other, **printed}.items()
        (blob,) = (digest for _, digest in after.blobs() if b"".join(after.blob(digest)) == b"x" * 50_000)
        assert blob


def _told(found: Chronicle) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and payload of what is no lifecycle event, without what says nothing."""
    for item in found.items():
        if item.event.category != "lifecycle":
            payload = msgspec.to_builtins(item.payload)
            yield item.event.kind, {name: value for name, value in payload.items() if value not in (None, "", [], {})}


def _sessions(data: Path) -> list[str]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(f"file:{data / 'log.sqlite'}?mode=ro", uri=True)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM session ORDER BY 1")]
