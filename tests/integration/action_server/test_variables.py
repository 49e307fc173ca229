"""Variables of a session that come while its sandbox runs."""

from __future__ import annotations

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.variables import TOTAL_BYTES_MAX, VALUE_BYTES_MAX, SessionVariables
from chronicled.runtimes.testing import FrameWorker


async def program(worker: FrameWorker, *argv: str) -> bytes:
    """Run a program and return its output."""
    action = await worker.dispatch("run", {"argv": list(argv)})
    await worker.result(action)
    return worker.output(action)


async def test_every_lane_has_them_from_its_next_command_on(worker: FrameWorker) -> None:
    """Live shells, new ones and programs have a variable at once, exported, whatever its bytes; None takes it away."""
    await worker.run("v=kept")
    value = 'it\'s \\ "$HOME" `x`\n*'
    await worker.send(frames.Environment(variables={"TOKEN": value, "FROM_SESSION": "other"}))
    for lane in ("main", "new"):
        assert (await worker.run("printf %s \"$TOKEN\"; sh -c 'echo; echo $FROM_SESSION'", lane=lane))[1] == (
            value + "\nother\n"
        ).encode()
    assert await program(worker, "sh", "-c", 'printf %s "$TOKEN$FROM_SESSION"') == (value + "other").encode()
    assert (await worker.run("echo $v $?"))[1] == b"kept 0\n"
    await worker.send(frames.Environment(variables={"TOKEN": None, "FROM_SESSION": None}))
    for lane in ("main", "new", "newer"):
        assert (await worker.run("echo ${TOKEN-none} ${FROM_SESSION-none}", lane=lane))[1] == b"none none\n"
    assert await program(worker, "sh", "-c", "echo ${TOKEN-none} ${FROM_SESSION-none}") == b"none none\n"


async def test_what_a_command_does_to_them_is_its_own(worker: FrameWorker) -> None:
    """A variable is set once: what the shell makes of it stays, and the action's own environment goes first."""
    await worker.send(frames.Environment(variables={"A": "1"}))
    assert (await worker.run("echo $A; A=2"))[1] == b"1\n"
    assert (await worker.run("echo $A", environment={"A": "3"}))[1] == b"3\n"
    assert (await worker.run("echo $A"))[1] == b"2\n"
    await worker.send(frames.Environment(variables={"A": "4"}))
    assert (await worker.run("echo $A"))[1] == b"4\n"
    result, _ = await worker.run("exit 3")
    assert result.state_lost
    assert (await worker.run("echo $A"))[1] == b"4\n"


async def test_they_come_without_a_trace(worker: FrameWorker) -> None:
    """No value shows in output, history, `set -x` and its file, `set -v`, `$?`, `fc`; the options stay as they were."""
    secret = "correct-horse-battery"
    await worker.run("exec 9>trace; BASH_XTRACEFD=9; set -xv; set -o history; PROMPT_COMMAND='history -a hist'")
    await worker.send(frames.Environment(variables={"TOKEN": secret}))
    _, output = await worker.run("(exit 3)")
    result, more = await worker.run("echo $? $-; cat trace hist; history; jobs; fc -l 2>&1; declare -p BASH_COMMAND")
    assert result.outcome in (Outcome.OK, Outcome.FAILED)
    assert secret.encode() not in output + more
    assert b"x" in more.splitlines()[-1] or b"3 " in more
    assert (await worker.run('[[ $- == *x* && $- == *v* ]] && set +xv; [ "$TOKEN" = ' + secret + " ] && echo same"))[
        1
    ].endswith(b"same\n")
    _, output = await worker.run("set | grep chronicled_options; env | grep -c TOKEN")
    assert output == b"1\n"


async def test_hard_shells_get_them_too(worker: FrameWorker) -> None:
    """Strict modes, readonly variables and odd settings do not cost the shell, and one bad name costs only itself."""
    await worker.run(
        "set -euo pipefail; readonly LOCKED=1; IFS=x; set -o posix; alias export=false unset=false test=false"
    )
    variables: dict[str, str | None] = {"LOCKED": "2", "UID": "0", "a b": "c", "N": "\0", "OK": "yes", "NONE": None}
    await worker.send(frames.Environment(variables=variables))
    _, output = await worker.run("echo $LOCKED $OK ${NONE-none}")
    assert output == b"1 yes none\n"
    assert b"yes" in await program(worker, "sh", "-c", "echo $OK")


def test_what_cannot_be_used_is_refused_by_name() -> None:
    """No name, bash's own, NUL, too large a value, too much in all: refused; the others are set."""
    variables = SessionVariables()
    asked = {"": "x", "1A": "x", "UID": "x", "NUL": "\0", "LARGE": "x" * (VALUE_BYTES_MAX + 1), "OK": "x", "GONE": None}
    assert variables.update(asked) == ["", "1A", "UID", "NUL", "LARGE"]
    assert variables.since(0) == {b"OK": b"x", b"GONE": None}
    assert variables.since(variables.changes) == {}
    assert variables.applied({b"GONE": b"1", b"STAYS": b"2"}) == {b"OK": b"x", b"STAYS": b"2"}
    count = TOTAL_BYTES_MAX // VALUE_BYTES_MAX
    many = {f"V{number}": "x" * VALUE_BYTES_MAX for number in range(count + 1)}
    assert variables.update(many) == [f"V{count}"]
