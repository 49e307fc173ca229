from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.integration.action_server.shell_cases import CASES, play

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames, process_tree
from chronicled.runtimes.testing import FrameWorker, eventually


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_commands_end_as_bash_has_it(worker: FrameWorker, case: str) -> None:
    """Each command's exit code and output are exactly bash's, whatever it does to its shell, and the next one runs."""
    await play(worker, case)


@pytest.mark.parametrize(
    "payload",
    [
        {"command": "echo \0"},
        {"command": "true", "environment": {"A": "\0"}},
        {"command": "true", "environment": {"UID": "1"}},
        {"command": "true", "environment": {"a b": "1"}},
        {"command": "true", "working_directory": "/none"},
        {"command": "true", "working_directory": "/\0"},
        {"command": 7},
        {},
        b"rubbish",
        b"\xff",
    ],
    ids=repr,
)
async def test_bad_arguments_never_run(worker: FrameWorker, payload: dict[str, Any] | bytes) -> None:
    """What cannot be run ends as an error without effects, and the lane goes on."""
    result = await worker.result(await worker.dispatch("run", payload))
    assert (result.outcome, result.effects, result.reason) == (Outcome.ERROR, Effects.NONE, "bad_arguments")
    assert (await worker.run("echo a"))[1] == b"a\n"


async def test_input_reaches_the_command_that_reads(worker: FrameWorker) -> None:
    """Typed lines and the end of input arrive; what nobody reads is not there for the next command."""
    action = await worker.dispatch("run", {"command": 'read -r a; echo "<$a>"; cat'})
    await worker.frame(frames.Started, action=action)
    for data in (b"one two\n", b"three\n", b"\x04"):
        await worker.send(frames.Input(action=action, data=data))
    assert (await worker.result(action)).outcome is Outcome.OK
    assert worker.output(action) == b"<one two>\nthree\n"
    action = await worker.dispatch("run", {"command": "read -r a; echo $a"})
    await worker.send(frames.Input(action=action, data=b"x\nrm -rf nothing\n"))
    await worker.result(action)
    _, output = await worker.run('read -t 0.05 -r a; echo "[$a]"')
    assert output == b"[]\n"


@pytest.mark.parametrize("command", ["sleep 60; echo no", "while :; do :; done; echo no", "read x; echo no"])
async def test_an_interrupt_ends_the_command_and_not_the_shell(worker: FrameWorker, command: str) -> None:
    """SIGINT ends a program, a loop of bash's own, or a read, with 130 and without what follows."""
    await worker.run("v=kept")
    action = await worker.dispatch("run", {"command": f"echo up; {command}"})
    await worker.frame(frames.Output, action=action)
    await worker.send(frames.Interrupt(action=action, signal=2))
    result = await worker.result(action)
    assert (result.outcome, result.fields["exit_code"]) == (Outcome.FAILED, 130)
    assert worker.output(action) == b"up\n"
    assert (await worker.run("echo $v"))[1] == b"kept\n"


async def test_what_comes_before_the_command_runs_is_kept_for_it(worker: FrameWorker) -> None:
    """Input and interrupts sent right behind the dispatch reach the command, also while bash still reads it."""
    action = await worker.dispatch("run", {"command": "read -r a; echo $a"})
    await worker.send(frames.Input(action=action, data=b"early\n"))
    assert (await worker.result(action)).outcome is Outcome.OK
    assert worker.output(action) == b"early\n"
    for size in (1, 900_000):
        remark = "x" * size
        action = await worker.dispatch("run", {"command": f"while :; do :; done; echo no # {remark}"})
        await worker.send(frames.Interrupt(action=action, signal=2))
        assert (await worker.result(action)).fields["exit_code"] == 130
        assert worker.output(action) == b""
    assert (await worker.run("echo a"))[1] == b"a\n"


async def test_typed_control_keys_work(worker: FrameWorker) -> None:
    """^C and ^Z typed at the terminal act on the foreground command."""
    action = await worker.dispatch("run", {"command": "sh -c 'echo up; exec sleep 60'"})
    await worker.frame(frames.Output, action=action)
    await worker.send(frames.Input(action=action, data=b"\x1a"))
    assert (await worker.result(action)).fields["exit_code"] == 148
    assert b"Stopped" in (await worker.run("jobs"))[1]
    action = await worker.dispatch("run", {"command": "echo up; fg"})
    await worker.frame(frames.Output, action=action)
    await worker.send(frames.Input(action=action, data=b"\x03"))
    assert (await worker.result(action)).fields["exit_code"] == 130


async def test_background_output_is_told_between_actions(worker: FrameWorker) -> None:
    """What a background job prints after its action has ended comes as a frame of the lane, and in no action."""
    action = await worker.dispatch("run", {"command": "mkfifo pipe; (read line <pipe; echo later) &"})
    await worker.run("true", lane="other")
    await worker.result(action)
    await worker.run("echo go >pipe", lane="other")
    told = await worker.frame(frames.Background, lane="main")
    assert told.data == b"later\n"
    assert told.size == 6
    assert b"later" not in worker.output(action)


async def test_background_output_is_counted_once(worker: FrameWorker) -> None:
    """Each frame counts what came since the one before it, so that their sum is what was printed."""
    await worker.run("mkfifo pipe; (while read line; do echo $line; done <>pipe) &")
    sizes: list[int] = []
    for word in ("one", "three"):
        await worker.run(f"echo {word} >pipe", lane="other")
        told = await worker.frame(frames.Background, lane="main", data=f"{word}\n".encode())
        sizes.append(told.size)
    assert sizes == [4, 6]


async def test_output_over_the_cap_is_counted_and_dropped(worker: FrameWorker) -> None:
    """The first bytes are kept, all are counted, and the command is not held up."""
    result, output = await worker.run("head -c 1000000 /dev/zero; echo end", output_bytes_max=1000)
    assert (len(output), result.output_bytes, result.output_dropped_bytes) == (1000, 1000004, 999004)
    assert result.outcome is Outcome.OK


async def test_quiet_deadline_is_kept_and_named(worker: FrameWorker) -> None:
    """A command that prints goes on; one that has been quiet for too long ends with that deadline's name."""
    for quiet_seconds in (0.3, 1.0, 5.0):
        gap = quiet_seconds / 3
        command = f"for i in 1 2 3 4; do echo $i; sleep {gap}; done; sleep 60"
        result, output = await worker.run(command, quiet_seconds=quiet_seconds)
        assert (result.outcome, result.deadline) == (Outcome.TIMEOUT, "quiet")
        # On a busy machine it may really have been quiet for too long between two lines: then in a slower rhythm.
        if output == b"1\n2\n3\n4\n":
            break
    assert output == b"1\n2\n3\n4\n"


async def test_a_new_shell_begins_nowhere_else_than_the_lane_was(worker: FrameWorker, tmp_path: Path) -> None:
    """Where the lane's directory is gone too, its next command does not run in another; the one after begins anew."""
    gone = tmp_path / "gone"
    await worker.run(f"mkdir {gone}; cd {gone}")
    await worker.run(f"rmdir {gone}; exit 3")
    result, _ = await worker.run("touch here", on_state_loss="run")
    assert (result.outcome, result.effects, result.reason) == (Outcome.ERROR, Effects.NONE, "directory_gone")
    result, output = await worker.run("pwd", on_state_loss="run")
    assert (result.outcome, output) == (Outcome.OK, f"{worker.spec.working_directory}\n".encode())
    assert not (Path("/") / "here").exists()


async def test_a_lane_whose_home_is_not_there_runs_nothing(worker: FrameWorker) -> None:
    """No command begins anywhere else than where lanes begin, unless it says where; one that does runs there."""
    shutil.rmtree(worker.spec.working_directory)
    for lane in ("a", "a", "b"):
        result, _ = await worker.run("touch here", lane=lane)
        assert (result.outcome, result.reason) == (Outcome.ERROR, "directory_gone")
    result, output = await worker.run("pwd", lane="c", working_directory="/tmp")
    assert (result.outcome, output) == (Outcome.OK, b"/tmp\n")


async def test_a_shell_lost_between_actions_is_not_replaced_silently(worker: FrameWorker) -> None:
    """After a shell died idle, an action that did not ask to run regardless is rejected: `cd` before it is gone."""
    _, output = await worker.run("cd /tmp; echo $$")
    os.kill(int(output), signal.SIGKILL)
    await eventually(lambda: process_tree.identify(int(output)) is None)
    result, _ = await worker.run("rm -rf relative")
    assert (result.outcome, result.effects, result.reason) == (Outcome.REJECTED, Effects.NONE, "state_lost")
    assert result.state_lost
    assert (await worker.run("echo a"))[1] == b"a\n"
