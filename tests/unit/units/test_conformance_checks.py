"""The kit's checks of what a unit is: each finds nothing in a right one, and fails on one that is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chronicled.daemon.units.conformance.checks import (
    downcaster_problems,
    golden_problems,
    lock_problems,
    rule_problems,
    upcaster_problems,
)
from chronicled.daemon.units.conformance.keeping import keep
from chronicled.events import KindSpec, Payload, action
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.chain import Downcaster, Upcaster, unchanged
from chronicled.migrations.unit import Unit


class Note(Payload, frozen=True, kw_only=True):
    """Version 1."""

    text: str
    count: int = 0


class NoteInWords(Payload, frozen=True, kw_only=True):
    """Version 2."""

    words: list[str]
    count: int = 0


class Changed(Payload, frozen=True, kw_only=True):
    """What version 1 must never become."""

    text: str
    count: str = ""


def up(payload: dict[str, Any]) -> dict[str, Any]:
    """Split the text."""
    payload["words"] = payload.pop("text").split()
    return payload


def down(payload: dict[str, Any]) -> dict[str, Any]:
    """Join the words."""
    payload["text"] = " ".join(payload.pop("words"))
    return payload


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that can be written, with nothing in it yet."""
    name = f"notes_{tmp_path.name.replace('-', '_').lower()}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    prepend: Callable[[str], None] = getattr(monkeypatch, "syspath_prepend")  # noqa: B009 - it has no types
    prepend(str(tmp_path))
    return name


def unit(package: str = "", first: type[msgspec.Struct] = Note, **changes: Any) -> Unit:
    """Return a unit that is right, but for what is changed."""
    kinds: tuple[KindSpec, ...] = (action("notes.note", first), action("notes.note", NoteInWords, version=2))
    values: dict[str, Any] = {
        "name": "notes", "package": package, "kinds": kinds, "upcasters": (Upcaster("action", "notes.note", 1, up),),
        "downcasters": (Downcaster("action", "notes.note", 1, down),),
    }  # fmt: skip
    return Unit(**{**values, **changes})


def test_what_is_kept_passes_and_is_never_changed(package: str, tmp_path: Path) -> None:
    """The first run writes lock and golden events; the second writes nothing, whatever has changed since."""
    right = unit(package)
    assert lock_problems(right)
    assert golden_problems(right)
    assert len(keep(right)) == 3
    assert lock_problems(right) == golden_problems(right) == []
    lock = (tmp_path / package / "schema.lock").read_text()
    assert keep(unit(package, first=Changed)) == []
    assert (tmp_path / package / "schema.lock").read_text() == lock


def test_a_schema_that_changed_is_found(package: str) -> None:
    """Another type of a field of a released version fails the lock, and a version that is gone too."""
    keep(unit(package))
    assert any("its schema has changed" in each for each in lock_problems(unit(package, first=Changed)))
    gone = unit(package, kinds=(action("notes.note", Note),), upcasters=(), downcasters=())
    assert any("is in the lock but not in the code" in each for each in lock_problems(gone))


def test_a_unit_without_a_package_is_told_to_name_it() -> None:
    """Nobody can find the lock of a unit that does not say where it is."""
    assert "does not say in `package`" in lock_problems(unit())[0]


def test_a_golden_event_that_is_not_read_any_more_is_found(package: str, tmp_path: Path) -> None:
    """A missing one, one that does not fit, and one that would be written otherwise."""
    keep(unit(package))
    path = tmp_path / package / "golden" / "action.notes.note.1.json"
    for text, words in (
        ('{"text":1}', "cannot be read"),
        ('{"count":0,"text":"a"}', "is not what this version writes"),
    ):
        path.write_text(text)
        assert any(words in each for each in golden_problems(unit(package)))
    path.unlink()
    assert any("is missing" in each for each in golden_problems(unit(package)))


def _raises(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["text"]:
        raise KeyError("not total")
    return up(payload)


UPCASTERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "partial": _raises,
    "another shape": lambda payload: payload,
    "another type": lambda payload: {**up(payload), "count": str(payload["count"])},
}


@pytest.mark.parametrize("step", UPCASTERS)
def test_an_upcaster_that_is_wrong_is_found(step: str) -> None:
    """One that raises for some payload, and ones that lead to nothing valid; the right one passes."""
    wrong = Upcaster("action", "notes.note", 1, UPCASTERS[step])
    assert "upcaster of action notes.note from version 1 fails" in upcaster_problems(unit(upcasters=(wrong,)), wrong)[0]
    right = unit()
    assert upcaster_problems(right, right.upcasters[0]) == []


def test_a_downcaster_that_is_wrong_is_found() -> None:
    """It may refuse with a ValueError; anything else, or what is not valid, is wrong."""

    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("version 1 cannot tell that")

    def other(payload: dict[str, Any]) -> dict[str, Any]:
        return {"none": payload["none"]}

    def nothing(_: dict[str, Any]) -> dict[str, Any]:
        return {}

    for step, wrong in ((down, False), (refuse, False), (other, True), (nothing, True)):
        found = Downcaster("action", "notes.note", 1, step)
        assert bool(downcaster_problems(unit(downcasters=(found,)), found)) is wrong, step


class Tally(Payload, frozen=True, kw_only=True):
    """Of both names; in JSON the map's names are texts."""

    counts: dict[int, int] = {}  # noqa: RUF012 - msgspec copies it


def _leaving(_: dict[str, Any]) -> dict[str, Any]:
    raise SystemExit(3)


def _listed(payload: dict[str, Any]) -> dict[str, Any]:
    return {"counts": [*payload["counts"]]}


def test_a_rename_is_tried_both_ways() -> None:
    """A way back from another name begins with that name; one that is wrong, or ends the process, is found."""
    kinds = (action("notes.count", Tally, becomes=(("notes.tally", 1),)), action("notes.tally", Tally))
    there = Upcaster("action", "notes.count", 1, unchanged, becomes=("notes.tally", 1))
    for back, wrong in ((unchanged, False), (_leaving, True), (_listed, True)):
        step = Downcaster("action", "notes.count", 1, back, above=("notes.tally", 1))
        whole = Unit(name="notes", kinds=kinds, upcasters=(there,), downcasters=(step,))
        assert bool(downcaster_problems(whole, step)) is wrong, back
        assert not upcaster_problems(whole, there)


RULES = {
    RedactionRule(name="notes.key", pattern="key-[0-9]{4,8}", length_max=16): "",
    RedactionRule(name="notes.text", fields=("text",)): "",
    RedactionRule(name="notes.key", pattern="key-[0-9]{4,8}", length_max=8): "is longer",
    RedactionRule(name="notes.none", fields=("nothing",)): "no kind of the unit has any of the fields",
    RedactionRule(name="notes.edge", pattern="^-key", length_max=16): "still has",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.name}-{rule.length_max}")
def test_a_rule_that_lets_something_through_is_found(rule: RedactionRule) -> None:
    """One whose longest match is longer than it says, one for fields that nobody has, one that depends on its place."""
    found = " ".join(rule_problems(unit(redaction=(rule,)), rule))
    assert RULES[rule] in found
    assert bool(found) is bool(RULES[rule])


def test_the_pytest_plugin_costs_nothing_to_those_who_do_not_use_it() -> None:
    """Loaded into everybody's pytest, it imports nothing of what it will need, and collects nothing."""
    code = (
        "import sys; before = set(sys.modules); import chronicled.daemon.units.conformance.plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout
    for heavy in ("msgspec", "asyncio", "hypothesis", "anyio", "importlib.metadata", "chronicled.events"):
        assert f"'{heavy}'" not in loaded, loaded
