"""Programs without any shell: what they get, how they end, and what they share with their lane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.integration.action_server.test_survivors import living

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.testing import FrameWorker


async def execute(worker: FrameWorker, *argv: str, **options: Any) -> tuple[frames.Result, bytes]:
    """Run a program, settle it, return its result and its output."""
    dispatch = {name: options.pop(name) for name in ("lane", "timeout_seconds") if name in options}
    action = await worker.dispatch("run", {"argv": list(argv), **options}, **dispatch)
    result = await worker.result(action)
    await worker.send(frames.Settle(action=action))
    return result, worker.output(action)


async def test_arguments_pass_as_they_are(worker: FrameWorker) -> None:
    """Nothing is expanded, split or quoted, whatever it holds; large ones pass too."""
    strange = ["$HOME", "a b", "*", "", "'\"\\", "\n\t\x01\x7f", "grüße 🙂", "-n"]
    _, output = await execute(worker, "printf", "%s|", *strange)
    assert output == "".join(f"{each}|" for each in strange).encode()
    _, output = await execute(worker, "sh", "-c", "echo ${#1} $#", "sh", *["x" * 100_000] * 10)
    assert output == b"100000 10\n"


@pytest.mark.parametrize(
    ("argv", "code", "reason", "message"),
    [
        (["true"], 0, None, None),
        (["sh", "-c", "exit 7"], 7, None, None),
        (["no_such_program"], 127, "command_not_found", "no_such_program: command not found"),
        (["/none/program"], 127, "command_not_found", "/none/program: no such file"),
        ([""], 127, "command_not_found", ": command not found"),
        (["/etc/passwd"], 126, "not_executable", "/etc/passwd: Permission denied"),
        (["/etc"], 126, "not_executable", "/etc: Permission denied"),
        (["./rubbish"], 126, "not_executable", "./rubbish: Exec format error"),
        (["./orphan"], 126, "not_executable", "./orphan: its interpreter is not there"),
        (["true", "x" * 140_000], 126, "not_executable", "true: arguments and environment are too long"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_exit_codes_are_a_shells(
    worker: FrameWorker, argv: list[str], code: int, reason: str | None, message: str | None
) -> None:
    """A program's own code; 127 and 126 for what is not there or cannot be executed, with a reason and a sentence."""
    home = Path(worker.spec.working_directory)
    for name, text in (("rubbish", "no program"), ("orphan", "#!/none/interpreter\n")):
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    result, output = await execute(worker, *argv)
    assert (result.fields["exit_code"], result.reason, result.message) == (code, reason, message)
    assert (result.outcome, result.effects) == (Outcome.FAILED if code else Outcome.OK, Effects.COMPLETE)
    assert output == (b"" if message is None else f"chronicled: {message}\n".encode())


async def test_a_signals_end_is_told_as_one(worker: FrameWorker) -> None:
    """A program that a signal ended was killed, as its wait status proves; its code is what a shell would say."""
    result, _ = await execute(worker, "sh", "-c", "kill -9 $$")
    assert (result.outcome, result.effects) == (Outcome.KILLED, Effects.POSSIBLE)
    assert (result.fields["signal"], result.fields["exit_code"]) == (9, 137)


async def test_it_runs_where_the_lane_is_and_changes_nothing_there(worker: FrameWorker) -> None:
    """It starts in the lane's directory, with the session's environment and not the shell's; the shell stays."""
    await worker.run("cd /usr; export OWN=1; v=kept")
    _, output = await execute(
        worker, "sh", "-c", "pwd; echo [$OWN][$FROM_SESSION][$MINE]; cd /", environment={"MINE": "2"}
    )
    assert output == b"/usr\n[][yes][2]\n"
    assert (await worker.run("echo $v $PWD"))[1] == b"kept /usr\n"
    result, output = await execute(worker, "pwd", working_directory="/")
    assert (output, result.fields["working_directory"]) == (b"/\n", "/usr")


async def test_its_terminal_is_its_own(worker: FrameWorker) -> None:
    """Input is a terminal, output a pipe unless more is asked for; it has the foreground, and three open files."""
    check = (
        "test -t 0 && test ! -t 1 && echo $TERM; ls /proc/self/fd | wc -l;"
        " ps -o tpgid=,pgid= -p $$ | awk '{print $1 == $2}'"
    )
    assert (await execute(worker, "sh", "-c", check))[1] == b"dumb\n4\n1\n"
    _, output = await execute(worker, "sh", "-c", "test -t 1; echo $? $TERM; stty size; printf '\\377\\0'", tty=True)
    assert output == b"0 xterm-256color\n50 200\n\xff\0"


async def test_input_signals_and_cancel_reach_it(worker: FrameWorker) -> None:
    """Typed lines and ^D, an interrupt sent right behind the dispatch, and a cancel."""
    action = await worker.dispatch("run", {"argv": ["cat"]})
    await worker.send(frames.Input(action=action, data=b"one\n\x04"))
    await worker.result(action)
    assert worker.output(action) == b"one\n"
    action = await worker.dispatch("run", {"argv": ["sleep", "60"]})
    await worker.send(frames.Interrupt(action=action, signal=2))
    assert (await worker.result(action)).fields["signal"] == 2
    action = await worker.dispatch("run", {"argv": ["sh", "-c", "trap '' INT TERM; sleep 60 & wait; sleep 60"]})
    await worker.frame(frames.Started, action=action)
    await worker.send(frames.Cancel(action=action))
    result = await worker.result(action)
    assert (result.outcome, result.effects) == (Outcome.CANCELLED, Effects.POSSIBLE)


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
async def test_its_deadline_ends_all_that_it_started_and_nothing_else(worker: FrameWorker, tmp_path: Path) -> None:
    """Survivors of a program are killed at its deadline; the shell and earlier jobs live; a normal end keeps jobs."""
    _, output = await worker.run("sleep 700 & echo $!; v=kept")
    job = int(output.split()[-1])
    await execute(worker, "sh", "-c", "setsid sleep 701 & sleep 702 &")
    before = set(living(tmp_path))
    assert len(before) == 4
    command = "trap '' INT TERM HUP; (setsid sleep 600 &); sleep 600 & echo up; wait; while :; do sleep 600; done"
    for seconds in (0.4, 2.0, 10.0):
        result, output = await execute(worker, "sh", "-c", command, timeout_seconds=seconds)
        assert (result.outcome, result.deadline) == (Outcome.TIMEOUT, "command")
        assert set(living(tmp_path)) == before
        # A busy machine may not have let it come so far.
        if output == b"up\n":
            break
    assert output == b"up\n"
    assert result.fields["survivors_killed"] >= 3
    assert any(process[0] == job for process in before)
    assert (await worker.run("echo $v"))[1] == b"kept\n"


async def test_what_it_leaves_prints_between_actions(worker: FrameWorker) -> None:
    """A job that outlives its program prints to the lane's background, not into the next action."""
    script = "(while [ ! -e go ]; do sleep 0.01; done; echo late) &"
    action = await worker.dispatch("run", {"argv": ["sh", "-c", script]})
    await worker.result(action)
    await execute(worker, "touch", "go", lane="other")
    assert (await worker.frame(frames.Background, lane="main")).data == b"late\n"
    assert worker.output(action) == b""


@pytest.mark.parametrize("payload", [{"argv": ["a\0"]}, {"argv": []}, {"argv": ["a"], "command": "b"}, {"argv": "ls"}])
async def test_bad_arguments_never_run(worker: FrameWorker, payload: dict[str, Any]) -> None:
    """What is no list of arguments ends as an error without effects."""
    result = await worker.result(await worker.dispatch("run", payload))
    assert (result.outcome, result.effects, result.reason) == (Outcome.ERROR, Effects.NONE, "bad_arguments")


async def test_a_lane_that_is_gone_is_told(worker: FrameWorker) -> None:
    """Without its directory a program does not start, and says why; the shell of the lane is none the worse."""
    await worker.run("mkdir gone; cd gone; rmdir $PWD")
    result, output = await execute(worker, "true")
    assert (result.fields["exit_code"], result.reason) == (126, "directory_gone")
    assert output.startswith(b"chronicled: the lane's working directory is gone")
    await worker.run("cd ..")
    assert (await execute(worker, "true"))[0].outcome is Outcome.OK


async def test_no_shell_is_needed(worker: FrameWorker, tmp_path: Path) -> None:
    """In a lane that only runs programs no bash is ever started."""
    await execute(worker, "sh", "-c", "sleep 600 &")
    assert not [words for words in living(tmp_path).values() if "bash" in words]
    await worker.run("true")
    assert [words for words in living(tmp_path).values() if "bash" in words]
