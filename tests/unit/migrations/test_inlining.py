"""Plain functions that are read as text do what they do when they are called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.migrations.plain_steps import (
    CALLED,
    FOLLOWED,
    New,
    Old,
    branched,
    changed,
    early,
    removed,
    shared,
)

from chronicled.migrations.inlining.reader import inlined

Step = Callable[[dict[str, Any]], dict[str, Any]]

WORD = st.one_of(st.sampled_from(["", "a", "b", "alpha"]), st.text(max_size=4))
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": WORD,
    "number": st.one_of(st.integers(-3, 20), st.integers()),
    "share": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "tags": st.lists(WORD, max_size=3),
    "inner": st.dictionaries(st.integers().map(str), st.integers(), max_size=2),
    "note": st.one_of(st.none(), WORD),
}
ANYTHING: st.SearchStrategy[Any] = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORD)
WHOLE = st.fixed_dictionaries(VALUES)
BROKEN = st.fixed_dictionaries(
    {}, optional={name: st.one_of(value, ANYTHING) for name, value in (*VALUES.items(), ("other", ANYTHING))}
)
DAMAGE = st.dictionaries(st.sampled_from(sorted(VALUES)), ANYTHING, max_size=2)


def _damaged(whole: dict[str, Any], damage: dict[str, Any]) -> dict[str, Any]:
    return whole | damage


ANY: st.SearchStrategy[dict[str, Any]] = st.one_of(WHOLE, BROKEN, st.builds(_damaged, WHOLE, DAMAGE))


def one_by_one(steps: Sequence[Step], raw: msgspec.Raw) -> Any:
    """Call the steps in turn, as plainly as it can be said; return the struct, or of which type what is raised is."""
    try:
        value = msgspec.json.decode(raw)
        for step in steps:
            value = step(value)
        return msgspec.convert(value, New, str_keys=True)
    except Exception as error:
        return type(error), str(error)


def reader(*steps: Step) -> Callable[[msgspec.Raw], Any]:
    """Return what reads as a chain does, and gives what is raised as `one_by_one` does."""
    found = inlined(Old, New, steps, lambda raw: _raised(one_by_one(steps, raw)))

    def read(raw: msgspec.Raw) -> Any:
        try:
            return found(raw)
        except _RaisedError as error:
            return error.found

    return read


class _RaisedError(Exception):
    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


def _raised(found: Any) -> Any:
    if not isinstance(found, New):
        raise _RaisedError(found)
    return found


def never(raw: msgspec.Raw) -> Any:
    """Stand where a step is called instead of followed."""
    raise AssertionError("it was called")


@pytest.mark.parametrize("step", FOLLOWED, ids=lambda step: getattr(step, "__name__", "fields"))
def test_what_is_followed_does_what_it_does_when_called(step: Step) -> None:
    """For whole payloads and for broken ones: the same struct, or the same error."""
    read = reader(step)

    @settings(max_examples=200, deadline=None)
    @given(ANY)
    def holds(payload: dict[str, Any]) -> None:
        raw = msgspec.Raw(msgspec.json.encode(payload))
        assert read(raw) == one_by_one([step], raw)

    holds()


@pytest.mark.parametrize("step", FOLLOWED, ids=lambda step: getattr(step, "__name__", "fields"))
def test_what_can_be_followed_is(step: Step) -> None:
    """A whole payload that fits never meets the function itself."""
    read = inlined(Old, New, [step], never)
    for number in (-7, 11):
        payload = Old(name="a", number=number, tags=["x", "b"], inner={"1": 2}, note="n")
        assert isinstance(read(msgspec.Raw(msgspec.json.encode(payload))), New)


@pytest.mark.parametrize("step", CALLED, ids=lambda step: getattr(step, "__name__", "partial"))
def test_what_cannot_be_followed_with_certainty_is_called(step: Step) -> None:
    """Loops, what gets the whole map, what is there only sometimes, closures, frames: the function itself is asked."""
    assert inlined(Old, New, [step], never) is never
    assert inlined(Old, New, [removed, step], never) is never


def test_a_path_is_followed_through_all_its_steps() -> None:
    """What one step puts is what the next one finds."""
    paths = ([branched, shared, early], [shared, early, changed], [shared, branched], [early, changed])
    readers = [(steps, reader(*steps)) for steps in paths]

    @settings(max_examples=200, deadline=None)
    @given(ANY)
    def holds(payload: dict[str, Any]) -> None:
        raw = msgspec.Raw(msgspec.json.encode(payload))
        for steps, read in readers:
            assert read(raw) == one_by_one(steps, raw)

    holds()
    assert inlined(Old, New, [shared, early, changed], never) is not never


def test_a_text_that_the_function_was_not_made_of_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was changed since its import says nothing about the code that runs."""
    text = "def step(payload):\n    payload['title'] = payload.pop('name')\n    return payload\n"
    module = _imported(tmp_path, monkeypatch, "steps_changed", text)
    assert inlined(Old, New, [module.step], never) is not never
    (tmp_path / "steps_changed.py").write_text(text.replace("'title'", "'note'"))
    assert inlined(Old, New, [module.step], never) is never
    (tmp_path / "steps_changed.py").unlink()
    assert inlined(Old, New, [module.step], never) is never


def test_a_constant_that_only_looks_alike_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`True`, `1` and `1.0` are equal, and not the same text."""
    text = "def step(payload):\n    payload['flag'] = True\n    return payload\n"
    module = _imported(tmp_path, monkeypatch, "steps_constant", text)
    (tmp_path / "steps_constant.py").write_text(text.replace("True", "1"))
    assert inlined(Old, New, [module.step], never) is never


def test_a_text_without_end_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `if` doubles what comes behind it: that has a bound, and is found out at once."""
    many = "".join(f"    if payload['number'] > {n}:\n        payload['share'] = {n}.5\n" for n in range(60))
    module = _imported(tmp_path, monkeypatch, "steps_many", f"def step(payload):\n{many}    return payload\n")
    assert inlined(Old, New, [module.step], never) is never


def _imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> ModuleType:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    return module
