"""The unit's executors, run for real: in a sandbox of the process runtime, with nothing but what is brought there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from chronicled.daemon.units.conformance.collection import Judged
from chronicled.daemon.units.conformance.examples import ActionExample, UnitExamples
from chronicled.daemon.units.conformance.trial import Trial, trial_problems

__all__ = ["SUBJECTS"]


def _with_executors(judged: Judged) -> list[tuple[str, Any]]:
    loaded = judged.loaded
    return [] if loaded is None or judged.broken or not loaded.unit.executors else [(judged.name, judged)]


def _with_examples(judged: Judged) -> list[tuple[str, Any]]:
    return [] if judged.examples is None else _with_executors(judged)


SUBJECTS: dict[str, Callable[[Judged], list[tuple[str, Any]]]] = {
    "executing": _with_executors,
    "exemplified": _with_examples,
}
"""What each test's argument stands for."""


def _try(judged: Judged, directory: Path, story: Callable[[Trial, UnitExamples], Awaitable[list[str]]]) -> None:
    assert judged.loaded is not None, "there are no tests without it"
    assert judged.examples is not None, "there are no tests without them"
    examples = judged.examples
    found = asyncio.run(trial_problems(judged.loaded, directory, lambda trial: story(trial, examples)))
    assert not found, "\n".join(found)


def test_every_runnable_kind_is_executed(executing: Judged, tmp_path: Path) -> None:
    """In a sandbox every executor can be imported, and takes the current version of each kind that is runnable."""
    assert executing.loaded is not None, "there are no tests without it"
    loaded = executing.loaded

    async def story(trial: Trial) -> list[str]:
        return trial.missing(loaded.unit)

    found = asyncio.run(trial_problems(loaded, tmp_path, story))
    assert not found, "\n".join(found)


def test_there_are_examples(executing: Judged) -> None:
    """What an executor does is judged by examples: name them with `--chronicled-examples package.module:NAME`."""
    assert executing.examples is not None, "no examples are named (--chronicled-examples, or chronicled_examples)"
    assert executing.loaded is not None, "there are no tests without it"
    runnable = {spec.kind for spec in executing.loaded.unit.kinds if spec.runnable}
    shown = {example.kind for example in executing.examples.sequence}
    assert not runnable - shown, f"no example of {', '.join(sorted(runnable - shown))}"
    assert any(example.output for example in executing.examples.sequence), "no example says what it prints"


def test_actions_end_as_they_should(exemplified: Judged, tmp_path: Path) -> None:
    """The examples, one after another in one lane: outcome, fields and output are right, and state is kept."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        found: list[str] = []
        for example in examples.sequence:
            found += await trial.differences(example)
        return found

    _try(exemplified, tmp_path, story)


def test_failures_are_told(exemplified: Judged, tmp_path: Path) -> None:
    """What fails ends `failed`, with a word that programs can go by."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        found: list[str] = []
        for example in examples.failing:
            found += await trial.differences(msgspec.structs.replace(example, outcome="failed"))
        return found

    _try(exemplified, tmp_path, story)


def test_what_is_no_payload_ends_and_harms_nothing(exemplified: Judged, tmp_path: Path) -> None:
    """A payload that it cannot read, which no worker sends, ends `failed` or `error`; the sandbox goes on."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        return await trial.garbage(examples.sequence[0])

    _try(exemplified, tmp_path, story)


def test_a_cancel_ends_it_soon(exemplified: Judged, tmp_path: Path) -> None:
    """A running action is over within three seconds of its cancel, and the next one of its lane runs."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        return await trial.ended_by_cancel(examples.slow, _next(examples))

    _try(exemplified, tmp_path, story)


def test_a_deadline_ends_it_soon(exemplified: Judged, tmp_path: Path) -> None:
    """A running action is over within three seconds of its deadline, which is named."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        return await trial.ended_by_deadline(examples.slow)

    _try(exemplified, tmp_path, story)


def test_lanes_run_side_by_side(exemplified: Judged, tmp_path: Path) -> None:
    """While an action runs in one lane, one of another lane begins and ends: nothing of it blocks the server."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        return await trial.side_by_side(examples.slow, _next(examples))

    _try(exemplified, tmp_path, story)


def test_it_closes_in_order(exemplified: Judged, tmp_path: Path) -> None:
    """At the end of the sandbox each executor is closed, within its time and without an error."""

    async def story(trial: Trial, examples: UnitExamples) -> list[str]:
        await trial.differences(_next(examples))
        return await trial.closed()

    _try(exemplified, tmp_path, story)


def _next(examples: UnitExamples) -> ActionExample:
    return examples.sequence[0]
