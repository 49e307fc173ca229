"""Every known shape of OpenHands V0, by the release that changed it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.imports.v0_rows import ROWS, VIEW, Row, act

from chronicled.events.registry import builtin_registry
from chronicled.migrations.conversion import Converted, Made, Original
from chronicled.migrations.openhands.v0.course import OpenHandsV0

REGISTRY = builtin_registry()


def convert(records: tuple[Any, ...]) -> list[Converted]:
    """Return what each record becomes, then what the end of the source brings."""
    course = OpenHandsV0().course("default", "s")
    found: list[Converted] = []
    for number, value in enumerate(records):
        id = value.get("id") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # made records
        key = str(id) if isinstance(id, int) else f"@{number}"  # pyright: ignore[reportUnknownArgumentType]  # made records
        found.append(course.convert(Original(number, key, msgspec.json.decode(msgspec.json.encode(value)))))
    return [*found, course.finish()]


def plain(made: Made) -> dict[str, Any]:
    """Return a payload as it will be read from the log."""
    value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made.payload))
    return value


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.release} {row.name}" for row in ROWS])
def test_a_shape_opens(row: Row) -> None:
    """It becomes events of ours (or an opaque one, where it has no counterpart) that say what it said."""
    *converted, _ = convert(row.records)
    made = [each for one in converted for each in one.made]
    assert [each.kind for each in made] == list(row.kinds), [one.shape for one in converted]
    assert any(one.opaque for one in converted) == row.opaque
    lost = {path for one in converted for path in one.lost}
    assert set(row.lost) <= lost
    if row.payload:
        found = plain(made[-1])
        assert {name: found.get(name) for name in row.payload} == row.payload


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.release} {row.name}" for row in ROWS])
def test_what_is_made_can_be_stored(row: Row) -> None:
    """Each event fits its kind's current schema, has an id of its own, and each runnable action ends exactly once."""
    made = [each for one in convert(row.records) for each in one.made]
    assert len({each.id for each in made}) == len(made)
    runnable: set[str] = set()
    ended: list[str] = []
    for each in made:
        spec = REGISTRY.find_current(each.category, each.kind)
        if spec is None:
            assert each.kind == "openhands.v0.opaque"
            continue
        assert type(each.payload) is spec.payload
        msgspec.json.decode(msgspec.json.encode(each.payload), type=spec.payload)
        assert each.terminal == spec.terminal
        if spec.runnable:
            runnable.add(each.id)
        if each.terminal:
            assert each.cause is not None
            ended.append(each.cause)
    assert len(set(ended)) == len(ended)
    assert runnable <= set(ended)


def test_every_shape_that_fails_there_is_among_them() -> None:
    """The shapes that OpenHands itself cannot read, or reads wrongly, are all in the table."""
    names = {row.name for row in ROWS if row.fails_there}
    assert len(names) >= 30
    assert {"background", "recall from memory", "status_code", "no trigger_by_action", "add_task", "summarize"} <= names
    assert {"an edit by a draft", "call_tool_mcp with arguments as text", "flat", "a pair of events"} <= names


def test_the_era_is_told() -> None:
    """The report says from before which release a record is, as far as its shape shows it."""
    one, *_ = convert(({"action": "run", "command": "ls", "is_confirmed": "confirmed", "keep_prompt": True},))
    assert one.shape == "flat action run, before 0.12.0"
    assert one.steps == ("0.12.0 is_confirmed is confirmation_state", "0.19.0 keep_prompt is gone")


def test_causes_are_found() -> None:
    """A cause is the id of the event that was made of the record that it named."""
    action, observation, end = convert(
        (
            {"id": 4, "action": "message", "args": {"content": "go"}, "source": "user"},
            {
                "id": 7,
                "observation": "agent_state_changed",
                "content": "",
                "extras": {"agent_state": "running"},
                "cause": 4,
            },
        )
    )
    assert observation.made[0].cause == action.made[0].id
    assert action.made[0].actor == "openhands:user"
    assert not end.made


def test_an_action_that_waits_for_a_confirmation_never_ran() -> None:
    """Without an end in the source it ends rejected, with no effects; one that was confirmed ends unknown."""
    waiting = {"id": 1, "action": "run", "args": {"command": "a", "confirmation_state": "awaiting_confirmation"}}
    confirmed = {"id": 2, "action": "run", "args": {"command": "a", "confirmation_state": "confirmed"}}
    end = convert((waiting, confirmed))[-1]
    assert [(plain(made)["outcome"], plain(made)["effects"], plain(made)["reason"]) for made in end.made] == [
        ("rejected", "none", "not_confirmed"),
        ("unknown", "possible", "not_in_import"),
    ]


def test_screenshots_become_blobs() -> None:
    """A screenshot is a blob that its event names, and so is a long image in a message."""
    picture = "data:image/png;base64," + "QUJD" * 4096
    action, seen, said, _ = convert(
        (
            {"id": 1, "action": "browse", "args": {"url": "http://a"}},
            {
                "id": 2,
                "observation": "browse",
                "content": "",
                "cause": 1,
                "extras": {"url": "u", "screenshot": picture},
            },
            {"id": 3, "action": "message", "args": {"content": "look", "image_urls": [picture]}},
        )
    )
    digest = plain(seen.made[0])["screenshot"]
    assert action.made
    assert seen.attached[digest] == b"ABC" * 4096
    assert seen.made[0].blobs == (digest,)
    assert plain(said.made[0])["image_urls"] == [f"blob:{digest}"]


def test_memory_is_bounded() -> None:
    """What a course remembers stays small, and an action that is open for too long is ended in its place."""
    course = OpenHandsV0().course("default", "s")
    made: list[Made] = []
    for number in range(2000):
        record = Original(number, str(number), {"id": number, "action": "run", "args": {"command": "x"}})
        made += course.convert(record).made
    assert len(course.state()) < 128 << 10
    made += course.finish().made
    assert sum(each.terminal for each in made) == 2000
    assert len({each.id for each in made}) == 4000


def test_an_old_view_finds_its_place_whole() -> None:
    """The editor's call of before 0.24.0 is a read with its range, and nothing of it is told to be lost."""
    one, _ = convert((act("read", path="/a", translated_ipython_code=VIEW),))
    assert (plain(one.made[0])["line_first"], plain(one.made[0])["line_last"], one.lost) == (2, 5, ())


@pytest.mark.parametrize("more", [{}, {"impl_source": "llm_based_edit"}])
def test_a_draft_is_told_to_be_one(more: dict[str, Any]) -> None:
    """Whoever looks why an edit is opaque learns what it was, and of which releases."""
    one, _ = convert((act("edit", path="/a", start=1, end=-1, **more),))
    assert one.shape == "event action edit, before 0.24.0"
    assert "draft" in plain(one.made[0])["reason"]
