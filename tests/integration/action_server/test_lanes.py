"""Many lanes in one generation: idle shells make room, nothing is run twice, and memory stays bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.lanes import LANES_MAX
from chronicled.runtimes.testing import FrameWorker

pytestmark = pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)


async def test_more_lanes_than_shells(worker: FrameWorker) -> None:
    """Lanes beyond the limit run; the idle one that was used longest ago loses its shell, and says so once."""
    await worker.run("cd /usr; v=1; sleep 600 & :", lane="jobs")
    await worker.run("cd /usr; v=1", lane="old")
    for number in range(LANES_MAX + 3):
        result, output = await worker.run("echo $((6*7))", lane=f"lane-{number}")
        assert (result.outcome, output) == (Outcome.OK, b"42\n")
        assert not result.state_lost
    assert (await worker.run("echo $v $PWD; jobs | wc -l", lane="jobs"))[1] == b"1 /usr\n1\n"
    result, _ = await worker.run("rm -rf *", lane="old")
    assert (result.outcome, result.effects, result.reason) == (Outcome.REJECTED, Effects.NONE, "state_lost")
    assert result.state_lost
    result, output = await worker.run("echo [$v]", lane="old")
    assert (result.outcome, output, result.state_lost) == (Outcome.OK, b"[]\n", False)


async def test_busy_lanes_are_never_put_down(worker: FrameWorker) -> None:
    """With every lane busy a further one is refused as overloaded, without effects, and runs once there is room."""
    waiting = [await worker.dispatch("run", {"command": "read x"}, lane=f"busy-{n}") for n in range(LANES_MAX)]
    for action in waiting:
        await worker.frame(frames.Started, action=action)
    result, _ = await worker.run("true", lane="more")
    assert (result.outcome, result.effects, result.reason) == (Outcome.ERROR, Effects.NONE, "overloaded")
    await worker.send(frames.Input(action=waiting[0], data=b"\n"))
    await worker.result(waiting[0])
    assert (await worker.run("true", lane="more"))[0].outcome is Outcome.OK


async def test_nothing_at_or_before_a_settled_position_runs_again(worker: FrameWorker, tmp_path: Path) -> None:
    """A dispatch of a settled action, or of one before it in its lane, is answered and never run; other lanes run."""
    home = Path(worker.spec.working_directory)
    command = {"command": "echo ran >>count"}
    for position in (5, 9):
        action = await worker.dispatch("run", command, position=position)
        await worker.result(action)
        await worker.send(frames.Settle(action=action))
    for position in (9, 5, 7, 1):
        worker.seen.clear()
        await worker.dispatch("run", command, position=position)
        await worker.frame(frames.Status)
    assert (home / "count").read_text() == "ran\nran\n"
    action = await worker.dispatch("run", command, lane="other", position=3)
    await worker.result(action)
    action = await worker.dispatch("run", command, position=10)
    await worker.result(action)
    assert (home / "count").read_text() == "ran\n" * 4
