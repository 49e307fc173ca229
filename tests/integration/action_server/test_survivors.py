from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from tests.awake import awake
from tests.integration.action_server.nasty import HOP, NASTY

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes import process_proof
from chronicled.runtimes.action_server import frames, process_tree
from chronicled.runtimes.action_server.process_tree import Process
from chronicled.runtimes.process import ProcessRuntime, ProcessSandbox
from chronicled.runtimes.testing import FrameWorker, eventually

DEADLINE_SECONDS = 0.4


def living(directory: Path) -> dict[Process, str]:
    """Return every process that lives somewhere in a directory, however it was detached, with its command line.

    The working directory is the one thing that `env -i`, `setsid` and a double fork all leave as it was.
    """
    found: dict[Process, str] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        known = process_tree.identify(int(name))
        try:
            place = os.readlink(f"/proc/{name}/cwd")
            words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if known is not None and known[2] not in b"ZX" and Path(place).is_relative_to(directory):
            found[known[0]] = words
    return found


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
@pytest.mark.parametrize("name", NASTY)
async def test_a_nasty_command_is_over_at_its_deadline(worker: FrameWorker, tmp_path: Path, name: str) -> None:
    """Two seconds after the deadline it is over, no process of it lives, what ran before does, and the lane goes on."""
    _, output = await worker.run("sleep 700 & echo $!", lane="main")
    before = int(output.split()[-1])
    await worker.run("true", lane="other")
    known = set(living(tmp_path))
    assert len(known) == 3
    # What kills its lane is to have done so by then, however long the shell takes to get there.
    deadline = 30.0 if name in _KILL_LANE else DEADLINE_SECONDS
    begin = awake()
    result, _ = await worker.run(NASTY[name], timeout_seconds=deadline, output_bytes_max=1 << 20)
    assert awake() - begin < DEADLINE_SECONDS + 2.0
    if name in _KILL_LANE:
        assert (result.outcome, result.effects) == (Outcome.KILLED, Effects.POSSIBLE)
    else:
        assert (result.outcome, result.deadline, result.effects) == (Outcome.TIMEOUT, "command", Effects.POSSIBLE)
    spared = {process for process in known if process[0] == before} if name not in _LOSE_LANE else set[Process]()
    left = {process: words for process, words in living(tmp_path).items() if process not in known}
    assert left == {}
    assert spared <= set(living(tmp_path))
    assert (await worker.run("echo alive"))[1] == b"alive\n"


_KILL_LANE = {"killed lane reaper", "stopped reaper, killed lane reaper"}
_LOSE_LANE = _KILL_LANE | {"lane reaper stopped again and again"}

LATE_TRAPS = {
    "once": ("trap 'read -t 0.05 <> quiet; trap - CHLD; sleep 603 &' CHLD", False),
    "for ever": ("trap 'read -t 0.05 <> quiet; sleep 603 &' CHLD", True),
    "on the interrupt": ("trap 'read -t 0.05 <> quiet; trap - INT; sleep 603 &' INT", False),
    "later than is waited for": ("trap 'read -t 5 <> quiet; sleep 603 &' CHLD", True),
}
"""Traps that begin something a while after what called them, and whether that costs the lane its shell.

Each blocks in a builtin, so that no look at the processes shows that something is still to come.
"""


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
@pytest.mark.parametrize("name", LATE_TRAPS)
async def test_what_a_late_trap_begins_ends_too(worker: FrameWorker, tmp_path: Path, name: str) -> None:
    """What the shell begins once its command has been ended is ended too; a shell that goes on and on goes as well.

    It is cancelled once its trap is set: a deadline could come before.
    """
    trap, restarted = LATE_TRAPS[name]
    await worker.run("mkfifo quiet")
    command = f"{trap}; set -m; sleep 604 & sh -c 'echo up; exec sleep 604'"
    action = await worker.dispatch("run", {"command": command})
    await worker.until(partial(_says, worker, action, b"up\n"))
    begin = awake()
    await worker.send(frames.Cancel(action=action))
    result = await worker.result(action)
    assert awake() - begin < 2.0
    await worker.send(frames.Settle(action=action))
    assert result.outcome is Outcome.CANCELLED
    assert (result.fields["terminal_restarted"], result.state_lost) == (restarted, restarted)
    # Whatever is still pending would begin now at the latest.
    after, _ = await worker.run("true", on_state_loss="run")
    assert (after.outcome, after.state_lost) == (Outcome.OK, False)
    assert "sleep 60" not in " ".join(living(tmp_path).values())


async def test_the_search_finds_a_survivor(worker: FrameWorker, tmp_path: Path) -> None:
    """Negative control: a process that nobody ends, detached in every way, is found by the search."""
    home = worker.spec.working_directory
    command = "(setsid nohup env -i sleep 600 </dev/null >/dev/null 2>&1 & echo $!)"
    started = await asyncio.create_subprocess_exec("bash", "-c", command, cwd=home, stdout=subprocess.PIPE)
    pid = int((await started.communicate())[0])
    try:
        await eventually(lambda: any(process[0] == pid for process in living(tmp_path)))
    finally:
        os.kill(pid, signal.SIGKILL)


STAYING = "env -i setsid sleep 600 & (setsid nohup sleep 600 &) ; trap '' TERM HUP; sleep 600 & " + HOP + " &"


@pytest.mark.parametrize("victim", ["server", "reaper", "lane reaper and server", "shell and server"])
async def test_whoever_is_killed_the_generation_ends_whole(
    worker: FrameWorker, sandbox: ProcessSandbox, tmp_path: Path, victim: str
) -> None:
    """With any part of the sandbox's own processes killed, nothing of it lives once its end is reported."""
    _, output = await worker.run(STAYING + "\necho $$ $PPID", output_bytes_max=1 << 20)
    shell, lane_reaper = map(int, output.split()[-2:])
    await worker.run("setsid sleep 600 &", lane="second")
    assert worker.hello is not None
    pids = {
        "server": [worker.hello.pid],
        "reaper": [int(sandbox.handle["pid"])],
        "lane reaper and server": [lane_reaper, worker.hello.pid],
        "shell and server": [shell, worker.hello.pid],
    }[victim]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        reason = await sandbox.wait_ended()
    assert living(tmp_path) == {}
    assert reason == ("killed" if victim == "reaper" else "server-signal-9")


async def test_nothing_outlives_an_action_whose_shell_was_killed(worker: FrameWorker, tmp_path: Path) -> None:
    """A command that ignores the hangup ends with its action; what ran before the action lives on."""
    await worker.run("sleep 601 &")
    result, _ = await worker.run("trap '' HUP; (sleep 0.2; kill -9 $$) & sleep 602")
    assert result.outcome is Outcome.KILLED
    # The one that killed the shell may itself not be gone yet.
    assert result.fields["survivors_killed"] in (1, 2)
    words = " ".join(living(tmp_path).values())
    assert "sleep 602" not in words
    assert "sleep 601" in words


async def test_lost_lane_reapers_cost_no_descriptors(worker: FrameWorker) -> None:
    """A lane reaper that is killed again and again leaves nothing open in the server."""
    assert worker.hello is not None
    pid = worker.hello.pid

    async def lose() -> int:
        await worker.run("kill -9 $PPID; sleep 60", on_state_loss="run")
        await worker.run("true", on_state_loss="run")
        return len(os.listdir(f"/proc/{pid}/fd"))

    before = await lose()
    after = [await lose() for _ in range(3)]
    assert after[-1] <= before


async def test_a_lost_lane_reaper_costs_its_lane_alone(worker: FrameWorker, tmp_path: Path) -> None:
    """Killing a lane's reaper ends that lane's processes; other lanes and the server go on."""
    _, output = await worker.run("setsid sleep 600 & echo $PPID")
    await worker.run("v=kept", lane="other")
    os.kill(int(output.split()[-1]), signal.SIGKILL)
    await eventually(lambda: not any("sleep" in words for words in living(tmp_path).values()))
    assert (await worker.run("echo $v", lane="other"))[1] == b"kept\n"
    assert (await worker.run("echo a"))[0].reason == "state_lost"
    assert (await worker.run("echo a"))[1] == b"a\n"


async def test_attach_kills_what_outlived_every_supervisor(
    worker: FrameWorker, sandbox: ProcessSandbox, tmp_path: Path
) -> None:
    """With all supervisors killed at once, orphans are found by their environment before None is said."""
    _, output = await worker.run("setsid sleep 600 & echo $PPID")
    assert worker.hello is not None
    handle = sandbox.handle
    victims = (int(output.split()[-1]), int(handle["pid"]), worker.hello.pid)
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not sandbox.alive)
    runtime = ProcessRuntime(str(tmp_path / "sandboxes"))
    assert await runtime.attach(handle, worker.spec) is None
    assert living(tmp_path) == {}


async def test_cancel_while_waiting_for_its_lane_has_no_effects(worker: FrameWorker) -> None:
    """An action that waits for its lane in the server, or has just come, is cancelled without having run."""
    first = await worker.dispatch("run", {"command": "read line"})
    second = await worker.dispatch("run", {"command": "echo ran >ran"})
    await worker.send(frames.Cancel(action=second))
    result = await worker.result(second)
    assert (result.outcome, result.effects) == (Outcome.CANCELLED, Effects.NONE)
    await worker.send(frames.Cancel(action=first))
    assert (await worker.result(first)).outcome is Outcome.CANCELLED
    assert (await worker.run("ls"))[1] == b""


@pytest.mark.parametrize("order", ["youngest first", "oldest first"])
async def test_a_sandbox_is_removed_whatever_its_numbers_are(
    worker: FrameWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Where process numbers begin anew, a lane's reaper can have a lower one than the reaper: removing takes no time.

    Nor where the youngest of them have been stopped.
    """
    _, output = await worker.run("sleep 600 & echo $PPID")
    os.kill(int(output.split()[-1]), signal.SIGSTOP)
    listed = os.listdir

    def ordered(path: str) -> list[str]:
        names = listed(path)
        numbers = sorted(map(int, filter(str.isdigit, names)), reverse=order == "youngest first")
        return [str(number) for number in numbers] if path == "/proc" else names

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", ordered)
        assert len(process_proof.find_reapers(worker.spec.sandbox)) == 1
        async with asyncio.timeout(10):
            await ProcessRuntime(str(tmp_path / "sandboxes")).remove(worker.spec.sandbox)
    assert living(tmp_path) == {}


GOES_ON = {
    "between programs": "trap 'echo no' INT; while :; do sh -c 'echo up; exec sleep 600'; done",
    "in a loop of builtins": "trap 'echo no' INT; while :; do [ $((++turns)) = 5 ] && echo up; done",
}
TRIES = 5


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
@pytest.mark.parametrize("command", GOES_ON.values(), ids=GOES_ON)
async def test_a_shell_that_goes_on_after_its_deadline_is_ended_at_once(worker: FrameWorker, command: str) -> None:
    """A trap on SIGINT does not buy a command time: what it goes on with is over within half a second.

    It is cancelled once it runs: a deadline also counts what a shell takes to come up, and an interrupt before the trap
    is set is simply obeyed.
    """
    loop = asyncio.get_running_loop()
    for _ in range(TRIES):
        action = await worker.dispatch("run", {"command": command, "on_state_loss": "run"})
        await worker.until(partial(_says, worker, action, b"up\n"))
        begun = loop.time()
        await worker.send(frames.Cancel(action=action))
        result = await worker.result(action)
        assert result.outcome is Outcome.CANCELLED
        # A busy machine makes it slower, until the shell is asked again and may come back; nothing makes it faster.
        if result.state_lost and loop.time() - begun < 0.5:
            return
    pytest.fail(f"none of {TRIES} was over at once")


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
async def test_a_shell_that_drops_its_command_on_the_second_interrupt_is_kept(worker: FrameWorker) -> None:
    """Where the trap lets the command end, though one program later, the lane keeps its shell."""
    await worker.run("v=kept")
    action = await worker.dispatch("run", {"command": "trap 'echo no' INT; sh -c 'echo up; exec sleep 600'; sleep 600"})
    await worker.until(partial(_says, worker, action, b"up\n"))
    await worker.send(frames.Cancel(action=action))
    result = await worker.result(action)
    assert (result.outcome, result.state_lost) == (Outcome.CANCELLED, False)
    assert (await worker.run("trap - INT; echo $v"))[1] == b"kept\n"


def _says(worker: FrameWorker, action: str, text: bytes) -> bool:
    return worker.output_path(action).exists() and text in worker.output(action)
