"""What another system had let through can be left behind: not in events, not in kept bytes, not in any blob."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imports.conversations import CODEC, events_of, originals, pairs, payload, ran, run, write_files

from chronicled.events.errors import SourceChanged
from chronicled.storage.imports.destination import Destination, open_destination
from chronicled.storage.imports.discovery import discover
from chronicled.storage.imports.importer import Importer, ImportOptions, Outcome
from chronicled.storage.imports.redacted import RedactedSource

VALUE = 'hunter2-"correct"-horse/9'
VALUES = {"TOKEN": VALUE}
SHAPES = (
    VALUE.encode(),
    json.dumps(VALUE)[1:-1].encode(),
    json.dumps(json.dumps(VALUE))[3:-3].encode(),
    base64.b64encode(VALUE.encode()),
    VALUE.encode().hex().encode(),
)


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Destination]:
    """A data directory that nobody else uses."""
    (tmp_path / "data").mkdir()
    async with open_destination(tmp_path / "data") as destination:
        yield destination


def leaky(folder: Path) -> Path:
    """Write a conversation into which a value has got in every way that OpenHands lets it through."""
    call = {"choices": [{"message": {"tool_calls": [{"function": {"arguments": json.dumps({"c": VALUE})}}]}}]}
    events: list[dict[str, Any]] = [
        {**run(0, "echo <secret_hidden>"), "message": f"Running command: echo {VALUE}"},
        ran(1, f"{VALUE}\n{base64.b64encode(VALUE.encode()).decode()}"),
        {**run(2), "tool_call_metadata": {"model_response": call}},
        ran(3, "x" * 100_000 + VALUE),
        {"id": 4, "action": "think", "args": {"thought": VALUE.encode().hex(), VALUE: 1}},
    ]
    write_files(folder, events)
    (folder / "events" / "5.json").write_text('{"id": 5, "action": "run", "args": {"command": "' + VALUE[:20])
    (folder / "events" / "6.json").write_bytes(b"\xff\x00 torn " + VALUE.encode() + b" \xfe")
    return folder


async def bring(to: Destination, path: Path, values: dict[str, str] | None = None) -> tuple[Outcome, int]:
    """Import what is at the path, without the values."""
    format, (source,) = discover(path)
    source = RedactedSource(source, values) if values else source
    importer = Importer(to.store, to.blobs, CODEC)
    outcome = await importer.run(source, format.conversion(), "c", ImportOptions())
    return outcome, source.redacted if isinstance(source, RedactedSource) else 0


def held(tmp_path: Path) -> bytes:
    """Return every byte of the data directory."""
    return b"\n".join(path.read_bytes() for path in sorted((tmp_path / "data").rglob("*")) if path.is_file())


async def test_nothing_of_a_value_is_kept(to: Destination, tmp_path: Path) -> None:
    """No file of the data directory has it in any form; all records are there, with the name in its place."""
    outcome, redacted = await bring(to, leaky(tmp_path / "c"), VALUES)
    assert (outcome.records, redacted) == (7, 7)
    kept = held(tmp_path)
    assert [shape for shape in SHAPES if shape in kept] == []
    ended = [payload(event) for event in await events_of(to.store, "c") if event.kind == "run" and event.cause]
    assert ended[0]["output"].startswith("<secret:TOKEN>\n<secret:TOKEN>")
    assert all(b"<secret:TOKEN>" in data for entry, data in await originals(to, "c") if entry.key in "023")
    assert not await to.store.verify()


async def test_without_being_asked_for_all_is_kept_as_it_was(to: Destination, tmp_path: Path) -> None:
    """The control: the same source, imported as it is, has the value in its events and in its bytes."""
    await bring(to, leaky(tmp_path / "c"))
    kept = held(tmp_path)
    assert len([shape for shape in SHAPES if shape in kept]) >= 4


async def test_it_is_imported_again_with_the_same_values_alone(to: Destination, tmp_path: Path) -> None:
    """What is compared is what was kept: with the values nothing is new, without them it is another source."""
    folder = leaky(tmp_path / "c")
    await bring(to, folder, VALUES)
    outcome, redacted = await bring(to, folder, VALUES)
    assert (outcome.records, outcome.earlier, redacted) == (0, 7, 7)
    with pytest.raises(SourceChanged):
        await bring(to, folder)
    (folder / "events" / "7.json").write_text(json.dumps(run(7, f"echo {VALUE}")))
    outcome, _ = await bring(to, folder, VALUES)
    assert (outcome.records, outcome.earlier) == (1, 7)
    assert VALUE.encode() not in held(tmp_path)


async def test_a_source_without_the_value_is_the_same(to: Destination, tmp_path: Path) -> None:
    """Where there is nothing to replace nothing changes: bytes, ids and the chain stay."""
    folder = write_files(tmp_path / "c", pairs(50))
    _, redacted = await bring(to, folder, VALUES)
    assert redacted == 0
    outcome, _ = await bring(to, folder)
    assert (outcome.records, outcome.earlier) == (0, 50)
