"""Whatever a log holds, every format is written and valid: logs of every release, and sessions made at random."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.golden.examples import example
from tests.golden.logs import golden_logs
from tests.unit.agent_sdk.records import action, observation
from tests.unit.formats import atif_schema, test_asciicast, test_cloud_events, test_json_lines, v0_schema
from tests.unit.formats.logs import SESSION, Chapter, exported

from chronicled.events.codec import Codec
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import builtin_registry
from chronicled.migrations.formats import atif, cloud_events, json_lines, openhands_v0
from chronicled.migrations.formats.asciicast import asciicast
from chronicled.migrations.formats.chronicle import Writer
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.imports.destination import open_destination
from chronicled.storage.imports.discovery import discover
from chronicled.storage.imports.importer import Importer, ImportOptions

REGISTRY: Final = builtin_registry()
SPECS: Final = [spec for spec in REGISTRY if spec is REGISTRY.current(spec.category, spec.kind)]


def check_cloud_events(text: bytes) -> None:
    """Assert that every line is a CloudEvent."""
    for line in text.splitlines():
        test_cloud_events.check(json.loads(line))


CHECKS: Final[dict[str, tuple[Writer, Callable[[bytes], Any]]]] = {
    "jsonl": (json_lines.write_with_blobs, lambda text: test_json_lines.verify(text.decode())),
    "cloudevents": (cloud_events.write_lines, check_cloud_events),
    "openhands": (openhands_v0.write, lambda text: v0_schema.check(json.loads(text))),
    "atif": (atif.write, lambda text: atif_schema.check(json.loads(text))),
    "asciicast v2": (asciicast(2), lambda text: test_asciicast.check(text, 2)),
    "asciicast v3": (asciicast(3), lambda text: test_asciicast.check(text, 3)),
}


def check_all(data: Path, session: str, after: int = 0) -> None:
    """Assert that every format of the session is valid, and that each of its events is written or counted."""
    for name, (writer, check) in CHECKS.items():
        text, tally = exported(data, writer, session, after)
        if after and name == "openhands":
            v0_schema.check(json.loads(text), whole=False)
        else:
            check(text)
        assert tally.events or after, name


@pytest.mark.parametrize("log", golden_logs(), ids=lambda path: path.stem)
def test_logs_of_every_release_can_be_taken_out(log: Path, tmp_path: Path) -> None:
    """A log that a released version wrote is exported as it lies there, without being migrated first."""
    shutil.copyfile(log, tmp_path / "log.sqlite")
    with closing(sqlite3.connect(tmp_path / "log.sqlite")) as connection:
        sessions = [name for (name,) in connection.execute("SELECT session.name FROM session ORDER BY 1")]
    for session in sessions:
        check_all(tmp_path, session)


@pytest.mark.parametrize(
    "time", ["2026-01-02T03:04:05+05:00", "2026-01-02T03:04:05Z", "<secret_hidden>", "\x00\n", "0001-01-01"]
)
def test_times_of_other_systems_can_be_anything(time: str, tmp_path: Path) -> None:
    """An import whose times are in zones, masked or nonsense is exported in every format, and valid."""
    folder = tmp_path / "sdk"
    (folder / "events").mkdir(parents=True)
    for number, value in enumerate((action(1), observation(1, exit_code=0), {"kind": "Unheard\n", "id": "x"})):
        (folder / "events" / f"event-{number:05}-{value['id']}.json").write_text(
            json.dumps(value | {"timestamp": time})
        )

    async def bring() -> None:
        async with open_destination(tmp_path) as to:
            format, sources = discover(folder)
            words = vocabulary()
            importer = Importer(to.store, to.blobs, Codec(words.registry, words.chain))
            for source in sources:
                await importer.run(source, format.conversion(), SESSION, ImportOptions())

    anyio.run(bring)
    check_all(tmp_path, SESSION)


@pytest.mark.parametrize(
    "payload",
    [b"nope", b"", b'"\xff"', b"{\n}", b'{"labels":{"a":"\xff"}}', b'{"secrets":["\xff"]}', b"1e999", b"[[[["],
)
def test_bytes_that_are_no_json_can_be_taken_out(payload: bytes, tmp_path: Path) -> None:
    """Whatever stands where a payload should, also in events that an export itself looks at: every format is valid."""
    chapter = Chapter()
    chapter.drafts[0] = msgspec.structs.replace(chapter.drafts[0], payload=payload)
    for kind in ("session_imported", "events_imported", "session_closed"):
        chapter.raw("lifecycle", kind, 1, payload)
        chapter.drafts[-1] = msgspec.structs.replace(chapter.drafts[-1], source="import")
    for category in ("action", "observation"):
        chapter.raw(category, "run", REGISTRY.current(category, "run").version, payload)
    anyio.run(chapter.write, tmp_path)
    check_all(tmp_path, SESSION)
    lines = exported(tmp_path, json_lines.write)[0].splitlines()[1:-1]
    shown = [json.loads(line) for line in lines]
    if payload != b"1e999":
        assert {base64.b64decode(each["event"]["payload"]) for each in shown if each.get("base64")} == {payload}


def written(steps: list[tuple[int, int, str, str]], data: Path) -> None:
    """Write a session of random steps: actions in lanes, ends in any order, things in between, what nobody knows."""
    chapter = Chapter()
    open: list[tuple[str, str, str]] = []
    for choice, which, lane, outcome in steps:
        spec = SPECS[which % len(SPECS)]
        if choice == 0 and open:
            kind, action, lane = open.pop(which % len(open))
            end = REGISTRY.current("observation", kind).payload
            effects = Effects.NONE if outcome in {"rejected", "error"} else Effects.COMPLETE
            chapter.end(kind, action, end(outcome=Outcome(outcome), effects=effects, duration_seconds=0.5), lane=lane)
        elif choice == 1 and spec.kind not in {"session_closed", "session_imported", "secret_registered"}:
            # In any version nothing is taken behind the first two, and no session shown whose secrets are not there.
            chapter.raw(spec.category, spec.kind, 99, b'{"x":1}')
        elif spec.terminal or spec.kind in {
            "session_created",
            "session_closed",
            "session_claimed",
            "session_imported",
            "secret_registered",
        }:
            continue
        else:
            id = chapter.add(spec.category, spec.kind, example(spec), lane=lane, source="client")
            if spec.runnable:
                open.append((spec.kind, id, lane))
    anyio.run(chapter.write, data)


STEPS: Final = st.tuples(
    st.integers(0, 5), st.integers(0, 200), st.sampled_from(["main", "side", "third"]), st.sampled_from(list(Outcome))
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=30), st.integers(0, 10))
def test_any_session_can_be_taken_out(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, str, str]], after: int
) -> None:
    """Whatever stands in a session, in whatever order, from wherever it is begun: each format is valid."""
    data = tmp_path_factory.mktemp("any")
    written(steps, data)
    check_all(data, SESSION)
    with closing(sqlite3.connect(data / "log.sqlite")) as connection:
        (head,) = connection.execute("SELECT max(position) FROM event").fetchone()
    check_all(data, SESSION, min(after, head))
