"""CloudEvents keep to the rules of the specification 1.0.2 and of its JSON format."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.golden.examples import example
from tests.unit.formats.logs import Chapter, exported

from chronicled.events.registry import builtin_registry
from chronicled.migrations.formats import cloud_events

NAME = re.compile(r"[a-z0-9]{1,20}")
REQUIRED = ("id", "source", "specversion", "type")
OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
INTEGERS = range(-(2**31), 2**31)


def check(event: dict[str, Any]) -> None:
    """Assert what the specification says of an event in the structured mode of the JSON format."""
    for name in REQUIRED:
        assert isinstance(event[name], str)
        assert event[name]
    assert event["specversion"] == "1.0"
    source: str = event["source"]
    schema: str = event["dataschema"]
    assert urlsplit(source).scheme
    for name in OPTIONAL:
        assert name not in event or (isinstance(event[name], str) and event[name])
    assert urlsplit(schema).scheme, "dataschema is an absolute URI"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", event["time"])
    assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert re.fullmatch(r"[\w.+-]+/[\w.+-]+", event["datacontenttype"])
    assert not ("data" in event and "data_base64" in event)
    for name, value in event.items():
        if name in {"data", "data_base64"}:
            continue
        assert NAME.fullmatch(name), f"the attribute {name} is not of lower case letters and digits"
        # The types of attributes: there is no null, no number with a fraction, no object.
        assert isinstance(value, str | bool) or (type(value) is int and value in INTEGERS)
        assert not isinstance(value, str) or not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value)


@pytest.fixture(scope="module")
def registry_specs() -> list[Any]:
    """Return the newest version of every kind."""
    registry = builtin_registry()
    return [spec for spec in registry if spec is registry.current(spec.category, spec.kind)]


@pytest.fixture
async def data(tmp_path: Path, registry_specs: list[Any]) -> Path:
    """Write a session with an event of every kind, and one that nobody understands."""
    chapter = Chapter()
    for spec in registry_specs:
        if spec.kind not in {"session_created", "session_closed", "session_claimed"}:
            cause = chapter.id() if spec.terminal else None
            chapter.add(spec.category, spec.kind, example(spec), cause=cause)
    chapter.raw("action", "acme.unknown", 3, b'{"any":[1,2]}')
    await chapter.write(tmp_path)
    return tmp_path


def test_lines_keep_to_the_specification(data: Path) -> None:
    """Each line is a CloudEvent, each with another id, ordered by `sequence` as text, its data the stored payload."""
    text, tally = exported(data, cloud_events.write_lines)
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        check(event)
    assert len({(event["source"], event["id"]) for event in events}) == len(events) == tally.written
    orders = [event["sequence"] for event in events]
    assert orders == sorted(orders)
    assert events[-1]["type"] == "chronicled.action.acme.unknown"
    assert events[-1]["data"] == {"any": [1, 2]}
    assert "opaque" in events[-1]
    assert tally.opaque == 1
    assert not tally.left_out


def test_a_batch_has_the_same_events(data: Path) -> None:
    """The batch is one JSON array of what the lines have."""
    lines = [json.loads(line) for line in exported(data, cloud_events.write_lines)[0].splitlines()]
    assert json.loads(exported(data, cloud_events.write_batch)[0]) == lines


def test_an_empty_batch_is_an_array(data: Path) -> None:
    """Behind the head there is nothing, which is valid too."""
    _, tally = exported(data, cloud_events.write_batch)
    text, _ = exported(data, cloud_events.write_batch, after=tally.head)
    assert json.loads(text) == []


@pytest.mark.parametrize(
    "change", [{"time": "2026-01-01"}, {"id": ""}, {"Sequence": "1"}, {"cause": None}, {"source": "x y"}]
)
def test_the_checker_refuses_what_is_wrong(data: Path, change: dict[str, Any]) -> None:
    """Negative control: an event that breaks a rule does not pass."""
    event = msgspec.json.decode(exported(data, cloud_events.write_lines)[0].splitlines()[0])
    check(event)
    with pytest.raises(AssertionError):
        check(event | change)
