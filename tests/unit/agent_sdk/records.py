"""Records of OpenHands V1 for tests: of the released SDK, and made by hand for what it no longer writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from chronicled.events.codec import encode_json
from chronicled.migrations.conversion import Converted, Course, Made, Original
from chronicled.migrations.openhands.v1.course import OpenHandsV1
from chronicled.migrations.openhands.v1.reading import mapping

FIXTURES = Path(__file__).parents[2] / "fixtures" / "openhands_v1"
FOLDERS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


def values_of(folder: str) -> list[dict[str, Any]]:
    """Return the events of a fixture in order."""
    return [json.loads(path.read_text()) for path in sorted((FIXTURES / folder / "events").glob("event-*.json"))]


def convert(values: Iterable[Any], course: Course | None = None) -> Iterator[Converted]:
    """Convert records one after another, each under a key of its own, as a source gives it."""
    course = course or OpenHandsV1().course("default", "s")
    seen: set[str] = set()
    for number, value in enumerate(values):
        id: Any = mapping(value).get("id")
        key = id if isinstance(id, str) and id not in seen else f"{number}-{id}"
        seen.add(key)
        yield course.convert(Original(number, key, value))


def made_of(values: Iterable[Any]) -> list[Made]:
    """Return the events that records become, their ends at the end of the source too."""
    course = OpenHandsV1().course("default", "s")
    made = [each for converted in convert(values, course) for each in converted.made]
    return [*made, *course.finish().made]


def plain(made: Made) -> dict[str, Any]:
    """Return a payload as plain values."""
    found: dict[str, Any] = json.loads(encode_json(made.payload))
    return found


def action(number: int = 1, kind: str = "TerminalAction", tool: str = "terminal", **fields: Any) -> dict[str, Any]:
    """Return the call of a tool."""
    inner = {"kind": kind, **(fields or {"command": "ls"})}
    arguments = {name: value for name, value in inner.items() if name != "kind"}
    return {
        "kind": "ActionEvent",
        "id": f"action-{number}",
        "timestamp": "2026-01-02T03:04:05.000006",
        "source": "agent",
        "thought": [],
        "action": inner,
        "tool_name": tool,
        "tool_call_id": f"call-{number}",
        "tool_call": {"id": f"call-{number}", "name": tool, "arguments": json.dumps(arguments), "origin": "completion"},
        "llm_response_id": "r",
    }


def observation(
    number: int = 1, kind: str = "TerminalObservation", said: str = "done", **fields: Any
) -> dict[str, Any]:
    """Return what came of it."""
    return {
        "kind": "ObservationEvent",
        "id": f"observation-{number}",
        "timestamp": "2026-01-02T03:04:06.000006",
        "source": "environment",
        "tool_name": "terminal",
        "tool_call_id": f"call-{number}",
        "action_id": f"action-{number}",
        "observation": {"kind": kind, "content": [{"type": "text", "text": said}], "is_error": False, **fields},
    }
