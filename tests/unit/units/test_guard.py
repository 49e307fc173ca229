"""Executors of third parties behind their guard: nothing of them comes out but a result, a cancellation or an error."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import (
    Cause,
    Context,
    Ended,
    ExecutorTable,
    LaneState,
    Request,
    SandboxContext,
)
from chronicled.runtimes.action_server.output import ActionOutput
from chronicled.runtimes.action_server.unit_executors import GuardedExecutor, load_executors

SANDBOX = SandboxContext(sandbox="s", generation="g", working_directory="/", environment={})
REQUEST = Request(
    action="a", lane="main", kind="acme.do", version=1, payload=b"{}", timeout_seconds=None, quiet_seconds=None
)


class Theirs:
    """An executor that does what the test says."""

    def __init__(self, does: Callable[[], Awaitable[Any]] | None = None, kinds: Any = None) -> None:
        self.kinds: Any = {"acme.do": 1} if kinds is None else kinds
        self._does = does

    async def execute(self, request: Request, context: Context) -> Ended:
        """Do it."""
        assert self._does is not None, "it was never to be executed"
        return cast("Ended", await self._does())

    async def close(self) -> None:
        """Never come to an end."""
        await asyncio.sleep(3600)


def context() -> Context:
    """Return the context of one action, without anything behind it."""
    return Context(LaneState("main", "/"), cast("ActionOutput", None), lambda: None, [])


async def _exit() -> None:
    raise SystemExit(3)


async def _interrupt() -> None:
    raise KeyboardInterrupt


async def _cancelled() -> None:
    raise asyncio.CancelledError


async def _nothing() -> None:
    return None


async def _strange() -> Ended:
    return Ended(outcome=cast("Outcome", "splendid"), effects=Effects.COMPLETE)


async def _unspeakable() -> Ended:
    return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"it": object()})


def _made(_: SandboxContext) -> Theirs:
    return Theirs()


def _leaving(_: SandboxContext) -> Theirs:
    sys.exit(1)


MISBEHAVIOUR: dict[Callable[[], Awaitable[Any]], str] = {
    _exit: "wanted to exit",
    _interrupt: "wanted to exit",
    _cancelled: "was cancelled from within",
    _nothing: "returned NoneType, and no Ended",
    _strange: "cannot be told",
    _unspeakable: "cannot be told",
}


@pytest.mark.parametrize("does", MISBEHAVIOUR, ids=lambda does: does.__name__)
async def test_misbehaviour_becomes_a_failure_with_its_words(does: Callable[[], Awaitable[Any]]) -> None:
    """Without the guard each of these would end the server, or the action without a result."""
    ended = await GuardedExecutor("acme", Theirs(does)).execute(REQUEST, context())
    assert (ended.outcome, ended.effects, ended.reason) == (Outcome.FAILED, Effects.POSSIBLE, "executor_failed")
    assert MISBEHAVIOUR[does] in (ended.message or "")


async def test_a_cancellation_that_is_wanted_goes_through() -> None:
    """A deadline or a cancel of ours ends the executor as a task is ended, and what it may have done is possible."""
    here = context()
    task = asyncio.create_task(GuardedExecutor("acme", Theirs(lambda: asyncio.sleep(60))).execute(REQUEST, here))
    await asyncio.sleep(0)
    here.end(Cause(Outcome.CANCELLED), task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert here.started


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["acme.do"], "must map each kind"),
        ({"acme.do": "1"}, "must map each kind"),
        ({}, "must map each kind"),
        ({"run": 1}, "does not bear the owner's prefix"),
    ],
)
def test_an_executor_says_what_it_takes_of_its_own(kinds: Any, words: str) -> None:
    """Kinds without versions, and kinds of others, are refused."""
    with pytest.raises((TypeError, ValueError), match=words):
        GuardedExecutor("acme", Theirs(kinds=kinds))


async def test_what_cannot_be_loaded_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An import that fails, a class that does, an exit: each is told, and the others are there."""
    module = ModuleType("guarded_module")
    vars(module).update(Good=_made, Twice=_made, Leaving=_leaving)
    monkeypatch.setitem(sys.modules, "guarded_module", module)
    table = ExecutorTable()
    named = [
        ("acme", "acme 1", "guarded_module:Good"),
        ("acme", "acme 1", "guarded_module:Twice"),
        ("beta", "beta 2", "guarded_module:Leaving"),
        ("gamma", "gamma 3", "no_such_module:Executor"),
    ]
    loaded = await load_executors(named, [str(tmp_path)], table, SANDBOX)
    sys.path.remove(str(tmp_path))
    assert table.kinds == ["acme.do"]
    assert table.versions == {"acme.do": 1}
    assert loaded.units == {"acme": "acme 1", "beta": "beta 2", "gamma": "gamma 3"}
    assert "two executors for actions of kind 'acme.do'" in loaded.missing["acme"]
    assert "SystemExit" in loaded.missing["beta"]
    assert "No module named 'no_such_module'" in loaded.missing["gamma"]
    assert "no executor no_such_module:Executor of gamma 3" in capfd.readouterr().err


async def test_an_executor_that_does_not_close_is_left(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its time is bounded; the log names its kinds."""
    monkeypatch.setattr("chronicled.runtimes.action_server.unit_executors.CLOSE_SECONDS", 0.05)
    await GuardedExecutor("acme", Theirs()).close()
    assert "acme.do did not close in order" in capfd.readouterr().err
