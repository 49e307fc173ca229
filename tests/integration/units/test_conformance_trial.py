"""The kit finds what is wrong with an executor, and nothing where nothing is: each check has a negative control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from chronicled.daemon.units.conformance.examples import ActionExample
from chronicled.daemon.units.conformance.trial import Trial, trial_problems
from chronicled.daemon.units.loading import Loaded
from chronicled.events import TerminalPayload, action, observation
from chronicled.events.kinds.runnable import Runnable
from chronicled.events.outcome import Outcome
from chronicled.migrations.unit import Unit


class Do(Runnable, frozen=True, kw_only=True):
    """What the wrong executors take."""

    what: str


class DoObservation(TerminalPayload, frozen=True, kw_only=True):
    """What they tell."""

    count: int = 0


KINDS = (action("wrong.do", Do, runnable=True), observation("wrong.do", DoObservation, terminal=True))
FIRST = ActionExample(kind="wrong.do", payload={"what": "count"}, fields={"count": 1}, output="done")
SECOND = ActionExample(kind="wrong.do", payload={"what": "count"}, fields={"count": 2})
SLOW = ActionExample(kind="wrong.do", payload={"what": "wait"})
FAILING = ActionExample(kind="wrong.do", payload={"what": "fail"}, outcome=Outcome.FAILED)

Story = Callable[[Trial], Awaitable[list[str]]]


async def _sequence(trial: Trial) -> list[str]:
    return [*await trial.differences(FIRST), *await trial.differences(SECOND)]


async def _missing(trial: Trial) -> list[str]:
    return trial.missing(_unit("Right"))


CHECKS: dict[str, Story] = {
    "missing": _missing,
    "sequence": _sequence,
    "failing": lambda trial: trial.differences(FAILING),
    "garbage": lambda trial: trial.garbage(FIRST),
    "cancel": lambda trial: trial.ended_by_cancel(SLOW, FIRST),
    "deadline": lambda trial: trial.ended_by_deadline(SLOW),
    "lanes": lambda trial: trial.side_by_side(SLOW, FIRST),
    "closing": lambda trial: trial.closed(),
}
WRONG = {
    "Old": ("missing", "takes version 7, the current one is 1"),
    "Foreign": ("missing", "does not bear the owner's prefix"),
    "Absent": ("missing", "has no attribute 'Absent'"),
    "Forgetful": ("sequence", "count is 1, not 2"),
    "Misfit": ("sequence", "do not fit the observation"),
    "Silent": ("failing", "failed without a `reason`"),
    "Unread": ("garbage", "ended ok"),
    "Stubborn": ("cancel", "only"),
    "Blocking": ("lanes", "slow"),
    "Unclosed": ("closing", "did not close in order"),
}


def _unit(executor: str) -> Unit:
    return Unit(name="wrong", kinds=KINDS, executors=(f"wrong.executors:{executor}",))


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is found where sandboxes are made."""
    prepend: Callable[[str], None] = getattr(monkeypatch, "syspath_prepend")  # noqa: B009 - it has no types
    prepend(str(Path(__file__).parent / "packages"))


async def _found(executor: str, check: str, directory: Path) -> list[str]:
    loaded = Loaded("wrong", "wrong:UNIT", _unit(executor), None)
    return await trial_problems(loaded, directory, CHECKS[check])


@pytest.mark.parametrize("check", CHECKS)
async def test_the_kit_finds_nothing_wrong_with_what_is_right(check: str, tmp_path: Path) -> None:
    """An executor that does what it should passes each check."""
    assert await _found("Right", check, tmp_path) == []


@pytest.mark.parametrize("executor", WRONG)
async def test_the_kit_finds_what_is_wrong(executor: str, tmp_path: Path) -> None:
    """An executor that is wrong in one way fails the check that is for it, with words that say how."""
    check, words = WRONG[executor]
    assert any(words in each for each in await _found(executor, check, tmp_path))


async def test_a_deadline_that_is_not_kept_is_found(tmp_path: Path) -> None:
    """The check of deadlines fails on an executor that blocks the server's loop."""
    assert any("only" in each for each in await _found("Blocking", "deadline", tmp_path))
