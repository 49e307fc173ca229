"""Who waits for the keyboard is told, from the terminal's state and not from silence."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.integration.action_server.keyboards import KEYBOARDS, QUIET, WAIT_IN_ANY_CASE

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.testing import FrameWorker

pytestmark = pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)

TOLD_SECONDS_MAX = 10.0


def told(worker: FrameWorker, action: str) -> list[bool]:
    """Return what was told about an action's waiting, in order."""
    return [frame.waiting for frame in worker.seen if isinstance(frame, frames.Waiting) and frame.action == action]


async def begin(worker: FrameWorker, **payload: Any) -> str:
    """Dispatch a run in which nobody will type, and return it once it waits or has ended."""
    action = await worker.dispatch("run", payload)
    await worker.until(lambda: action in worker.results or told(worker, action) != [], TOLD_SECONDS_MAX)
    return action


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
@pytest.mark.parametrize("name", KEYBOARDS)
async def test_a_program_that_wants_a_keyboard_ends_or_says_so(worker: FrameWorker, name: str, tty: bool) -> None:
    """Within ten seconds it has ended by itself or waits for input, once; and it can be cancelled."""
    action = await begin(worker, command=KEYBOARDS[name], tty=tty)
    if action in worker.results:
        assert name not in WAIT_IN_ANY_CASE
        assert worker.results[action].outcome in (Outcome.OK, Outcome.FAILED)
        return
    assert told(worker, action) == [True]
    await worker.send(frames.Cancel(action=action))
    assert (await worker.result(action)).outcome is Outcome.CANCELLED
    assert told(worker, action) == [True]


async def test_programs_without_a_shell_wait_too(worker: FrameWorker) -> None:
    """A program that was run by its arguments waits for input like a command, and gets it."""
    action = await begin(worker, argv=["cat"])
    assert told(worker, action) == [True]
    await worker.send(frames.Input(action=action, data=b"x\n\x04"))
    await worker.result(action)
    assert worker.output(action) == b"x\n"


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
async def test_what_does_not_read_the_terminal_does_not_wait(worker: FrameWorker, tty: bool) -> None:
    """Sleepers, pipes, files, background jobs and busy loops are never told to wait for input."""
    found: dict[str, list[bool]] = {}

    async def one(name: str) -> None:
        result, _ = await worker.run(QUIET[name], tty=tty, lane=name, on_state_loss="run")
        assert result.outcome in (Outcome.OK, Outcome.FAILED)
        found[name] = told(worker, result.action)

    names = list(QUIET)
    for start in range(0, len(names), 5):
        await asyncio.gather(*(one(name) for name in names[start : start + 5]))
    assert found == {name: [] for name in QUIET}


async def test_each_waiting_period_is_told_once(worker: FrameWorker) -> None:
    """What is typed ends a period without a word; the next one is told again; one that ends by itself is told too."""
    reader, rest = "sh -c 'echo $$ >reader; exec cat'", "until [ -e go ]; do sleep 0.1; done; echo $a $b"
    action = await begin(worker, command=f"read -r a; read -r b; {reader}; {rest}")
    for word in (b"one\n", b"two\n"):
        worker.seen.clear()
        await worker.send(frames.Input(action=action, data=word))
        await worker.until(lambda: True in told(worker, action), TOLD_SECONDS_MAX)
    # The one death of a program that bash says nothing of.
    await worker.run("kill -PIPE $(cat reader)", lane="other")
    await worker.until(lambda: told(worker, action)[-1] is False, TOLD_SECONDS_MAX)
    await worker.run("touch go", lane="other")
    await worker.result(action)
    assert worker.output(action) == b"one two\n"
    # A period that input has ended may be called over once more: what was typed could have crossed with the word.
    assert [each for each in told(worker, action) if each] == [True]


async def test_a_worker_that_comes_back_hears_who_waits(worker: FrameWorker) -> None:
    """After a new connection the status is followed by who waits for input at that moment."""
    action = await begin(worker, command="read -r a; echo $a")
    assert worker.connection is not None
    worker.connection.close()
    worker.seen.clear()
    await worker.connect(fence=2)
    await worker.send(frames.Query())
    await worker.until(lambda: told(worker, action) == [True])
    await worker.send(frames.Input(action=action, data=b"x\n"))
    await worker.result(action)
    await worker.send(frames.Query())
    await worker.until(lambda: sum(isinstance(frame, frames.Status) for frame in worker.seen) == 2)
    assert told(worker, action) == [True]
