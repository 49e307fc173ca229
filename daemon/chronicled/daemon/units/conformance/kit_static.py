"""What is judged without running anything of the unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chronicled.daemon.units.conformance.checks import (
    downcaster_problems,
    golden_problems,
    lock_problems,
    rule_problems,
    upcaster_problems,
)
from chronicled.daemon.units.conformance.collection import Judged
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.chain import Downcaster, Upcaster
from chronicled.migrations.unit import Unit

__all__ = ["SUBJECTS"]


def _unit(judged: Judged) -> Unit | None:
    return None if judged.loaded is None else judged.loaded.unit


def _steps(judged: Judged, steps: Callable[[Unit], Sequence[Upcaster | Downcaster]]) -> list[tuple[str, Any]]:
    unit = _unit(judged)
    return [] if unit is None else [(f"{step.category}-{step.kind}-{step.version}", step) for step in steps(unit)]


def _rules(judged: Judged) -> list[tuple[str, RedactionRule]]:
    unit = _unit(judged)
    return [] if unit is None else [(rule.name, rule) for rule in unit.redaction]


SUBJECTS: dict[str, Callable[[Judged], list[tuple[str, Any]]]] = {
    "judged": lambda judged: [(judged.name, judged)],
    "unit": lambda judged: [(judged.name, unit)] if (unit := _unit(judged)) is not None else [],
    "upcaster": lambda judged: _steps(judged, lambda unit: unit.upcasters),
    "downcaster": lambda judged: _steps(judged, lambda unit: unit.downcasters),
    "rule": _rules,
}
"""What each test's argument stands for."""


def test_the_unit_loads(judged: Judged) -> None:
    """It can be found and imported, bears its prefix, has a path for each version, and can be brought to sandboxes."""
    assert not judged.broken, judged.broken


def test_the_lock_file_holds(unit: Unit) -> None:
    """No schema has changed since it was released: a change is a new version with an upcaster."""
    assert not (found := lock_problems(unit)), "\n".join(found)


def test_golden_events_are_read_and_written(unit: Unit) -> None:
    """Every version of every kind has an event that is read for ever, and written as it was."""
    assert not (found := golden_problems(unit)), "\n".join(found)


def test_upcasters_are_total(unit: Unit, upcaster: Upcaster) -> None:
    """Whatever a version allows becomes a valid payload of the current one."""
    assert not (found := upcaster_problems(unit, upcaster)), "\n".join(found)


def test_downcasters_tell_or_refuse(unit: Unit, downcaster: Downcaster) -> None:
    """Whatever a version allows becomes a valid payload of the one before it, or a ValueError."""
    assert not (found := downcaster_problems(unit, downcaster)), "\n".join(found)


def test_rules_let_nothing_through(unit: Unit, rule: RedactionRule) -> None:
    """What a rule is to replace is in no payload and in no output, however that is cut."""
    assert not (found := rule_problems(unit, rule)), "\n".join(found)
