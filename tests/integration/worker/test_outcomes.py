"""Every outcome that can occur with the process runtime, provoked for real and named right."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import msgspec
from tests.integration.worker.machine import Machine
from tests.unit.worker.world import running

from chronicled.events.kinds.actions import Browse
from chronicled.events.kinds.lifecycle import GenerationStarted, InputSent
from chronicled.runtimes.action_server.frames import Transfer


async def test_ok_and_failed(tmp_path: Path) -> None:
    """Exit code 0 is `ok`, any other `failed`; both complete, with output and directory."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ok = await machine.ended(await machine.submit("echo hello; cd /tmp"))
        assert (ok.outcome, ok.effects, ok.exit_code, ok.output) == ("ok", "complete", 0, "hello\n")
        failed = await machine.ended(await machine.submit("pwd; exit_code() { return 3; }; exit_code"))
        assert (failed.outcome, failed.effects, failed.exit_code, failed.output) == ("failed", "complete", 3, "/tmp\n")


async def test_timeout_by_the_command_deadline(tmp_path: Path) -> None:
    """The action server ends a command at its deadline; what it printed is kept."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        for seconds in (0.3, 2.0, 6.0):
            ended = await machine.ended(await machine.submit("echo before; sleep 30", timeout_seconds=seconds))
            assert (ended.outcome, ended.deadline, ended.effects) == ("timeout", "command", "possible")
            # The deadline also counts what a shell takes to come up, which is long on a busy machine.
            if ended.output:
                break
        assert ended.output.startswith("before\n")


async def test_timeout_by_the_quiet_deadline(tmp_path: Path) -> None:
    """A command that prints nothing for too long ends by the quiet deadline."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ended = await machine.ended(await machine.submit("echo before; sleep 30", quiet_seconds=0.3))
        assert (ended.outcome, ended.deadline) == ("timeout", "quiet")


async def test_cancelled_queued_and_running(tmp_path: Path) -> None:
    """A queued action ends without effects, a running one with possible ones, and its processes are gone."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        flying = await machine.submit("echo $BASHPID > pid; sleep 60")
        queued = await machine.submit("touch queued-ran")
        await machine.until(lambda: _exists(machine, "pid"))
        await machine.ask(queued)
        ended = await machine.ended(queued)
        assert (ended.outcome, ended.effects) == ("cancelled", "none")
        await machine.ask(flying)
        ended = await machine.ended(flying)
        assert (ended.outcome, ended.effects) == ("cancelled", "possible")
        assert not await _exists(machine, "queued-ran")


async def test_rejected_in_three_ways(tmp_path: Path) -> None:
    """Queue deadline, lost state and a closed session each reject what never ran, by name."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        flying = await machine.submit("touch up; sleep 60")
        late = await machine.submit("true", queue_seconds=0.1)
        ended = await machine.ended(late)
        assert (ended.outcome, ended.reason, ended.deadline) == ("rejected", "queue_deadline", "queue")
        stateful = await machine.submit("true")
        await machine.until(lambda: _exists(machine, "up"))
        await _kill_generation(machine)
        assert (await machine.ended(stateful)).reason == "state_lost"
        assert (await machine.ended(flying)).outcome == "sandbox_lost"
        second = await machine.submit("touch up-again; sleep 60")
        unlucky = await machine.submit("true")
        await machine.until(lambda: _exists(machine, "up-again"))
        await machine.close()
        assert (await machine.ended(unlucky)).reason == "session_closed"
        assert (await machine.ended(second)).outcome == "cancelled"


async def test_error_in_two_ways(tmp_path: Path) -> None:
    """No executor for the kind, and no runtime for the session: it never ran, and the message says why."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ended = await machine.ended(await machine.submit_kind("browse", Browse(url="http://example.org")))
        assert (ended.outcome, ended.reason, ended.effects) == ("error", "no_executor", "none")
        await machine.create("elsewhere", runtime="moonbase")
        ended = await machine.ended(await machine.submit("true", "elsewhere"))
        assert (ended.outcome, ended.reason, ended.effects) == ("error", "sandbox_start_failed", "none")
        assert "moonbase" in ended.message


async def test_killed(tmp_path: Path) -> None:
    """A shell that somebody's signal ends is `killed`, as its wait status proves."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ended = await machine.ended(await machine.submit("kill -9 $$"))
        assert (ended.outcome, ended.effects, ended.signal) == ("killed", "possible", signal.SIGKILL)


async def test_sandbox_lost_keeps_the_output_and_leaves_no_process(tmp_path: Path) -> None:
    """A generation that is killed: `sandbox_lost` with what was printed; no process of it lives when that is said."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        flying = await machine.submit("echo before; (setsid sleep 77 &) ; touch up; sleep 60")
        await machine.until(lambda: _exists(machine, "up"))
        # What is still on its way to the worker when the sandbox dies, dies with it.
        await machine.until(lambda: _holds(machine, flying.id, b"before\n"))
        generation = await _kill_generation(machine)
        ended = await machine.ended(flying)
        assert (ended.outcome, ended.effects, ended.output) == ("sandbox_lost", "possible", "before\n")
        assert not _marked(generation)


async def _holds(machine: Machine, action: str, output: bytes) -> bool:
    return any(path.read_bytes() == output for path in _outputs(machine, action))


def _outputs(machine: Machine, action: str) -> list[Path]:
    return list(Path(machine.directories.spool).glob(f"*/{action}.out"))


async def test_unknown_when_the_journal_is_gone(tmp_path: Path) -> None:
    """Worker and sandbox died and the journal is missing: the lane's head is `unknown`, the rest never ran."""
    async with Machine.open(tmp_path) as machine:
        async with machine.working():
            await machine.create()
            head = await machine.submit("touch up; sleep 60")
            behind = await machine.submit("true")
            await machine.until(lambda: _exists(machine, "up"))
        await _kill_generation(machine)
        os.unlink(f"{machine.directories.journal}/dispatch")
        async with machine.working():
            ended = await machine.ended(head)
            assert (ended.outcome, ended.effects, ended.reason) == ("unknown", "possible", "journal_lost")
            assert (await machine.ended(behind)).reason == "state_lost"


async def test_a_restarted_worker_finds_the_command_and_its_output(tmp_path: Path) -> None:
    """A worker that dies in the middle of an output: the command goes on, the next worker has every byte of it."""
    command = "for i in $(seq 1 2000); do echo line $i; if [ $i = 900 ]; then touch half; sleep 0.3; fi; done"
    async with Machine.open(tmp_path) as machine:
        async with machine.working():
            await machine.create()
            action = await machine.submit(command)
            await machine.until(lambda: _exists(machine, "half"))
        async with machine.working() as worker:
            with worker.outputs.follow("default", "s", action.id) as follower:
                followed = b"".join([data async for data in follower.read()])
            ended = await machine.ended(action)
        expected = "".join(f"line {number}\n" for number in range(1, 2001))
        assert followed.decode() == expected
        assert (ended.outcome, ended.output) == ("ok", expected)
        assert len(await machine.events("generation_started")) == 1


async def test_a_result_that_nobody_heard_is_collected_from_the_dead(tmp_path: Path, transfer: Transfer) -> None:
    """The command ended while no worker was there, then the sandbox died: its true outcome is in the spool.

    In-band the spool was the server's own, so that nobody can know any more: and that is said.
    """
    async with Machine.open(tmp_path) as machine:
        async with machine.working():
            await machine.create()
            action = await machine.submit("touch up; until [ -e go ]; do sleep 0.01; done; echo done; touch over")
            await machine.until(lambda: _exists(machine, "up"))
        (await _home(machine) / "go").touch()
        await machine.until(lambda: _exists(machine, "over"))
        if transfer == "descriptors":
            await machine.until(lambda: _spooled(machine))
        await _kill_generation(machine)
        async with machine.working():
            ended = await machine.ended(action)
            if transfer == "descriptors":
                assert (ended.outcome, ended.output) == ("ok", "done\n")
            else:
                assert (ended.outcome, ended.effects) == ("sandbox_lost", "possible")


async def test_binary_output_is_exact_in_its_blob(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 show as U+FFFD in the observation; the blob has them as they were printed."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ended = await machine.ended(await machine.submit(r"printf '\x00\xff\xfeabc'"))
        assert ended.output == "\0��abc"
        assert ended.output_blob
        data = b"".join([data async for data in machine.blobs.read(ended.output_digest)])
        assert data == b"\x00\xff\xfeabc"


async def test_a_large_output_becomes_a_blob_and_its_event_stays_small(tmp_path: Path) -> None:
    """5 MB of output: head, tail and digest in an event under 64 KiB, every byte in the blob."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        action = await machine.submit("seq 1 700000")
        ended = await machine.ended(action)
        expected = b"".join(b"%d\n" % number for number in range(1, 700001))
        assert (ended.output_bytes, ended.truncated) == (len(expected), True)
        assert ended.output.startswith("1\n2\n")
        assert ended.output.endswith("699999\n700000\n")
        data = b"".join([data async for data in machine.blobs.read(ended.output_digest)])
        assert data == expected
        terminal = await machine.store.terminal("default", action.id)
        assert terminal is not None
        assert len(msgspec.json.encode(terminal)) < 64 << 10


async def test_input_reaches_a_running_command(tmp_path: Path) -> None:
    """What is typed to a command is read by it, once."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        action = await machine.submit("touch up; read -r line; echo got $line")
        await machine.until(lambda: _exists(machine, "up"))
        await machine.ask(action, "input_sent", InputSent(data="yes\n"))
        ended = await machine.ended(action)
        assert ended.outcome == "ok"
        assert "got yes\n" in ended.output


async def test_a_drained_worker_hands_its_sandbox_to_the_next(tmp_path: Path) -> None:
    """After a drain the same generation goes on: a shell variable is still there."""
    async with Machine.open(tmp_path) as machine:
        worker = machine.worker()
        async with running(worker):
            await machine.create()
            await machine.ended(await machine.submit("kept=42"))
            worker.drain()
            await machine.until(lambda: _logged(machine, "session_released"))
        async with machine.working():
            ended = await machine.ended(await machine.submit("echo $kept"))
            assert ended.output == "42\n"


async def _logged(machine: Machine, kind: str) -> bool:
    return bool(await machine.events(kind))


async def _exists(machine: Machine, name: str) -> bool:
    started = await machine.events("sandbox_requested")
    homes = [machine.directories.home(machine.codec.decode(event).sandbox) for event in started]
    return _any_exists([f"{home}/{name}" for home in homes])


def _any_exists(paths: list[str]) -> bool:
    return any(map(os.path.exists, paths))


async def _home(machine: Machine) -> Path:
    (requested,) = await machine.events("sandbox_requested")
    return Path(machine.directories.home(machine.codec.decode(requested).sandbox))


async def _spooled(machine: Machine) -> bool:
    started = await _generation(machine)
    return os.stat(machine.directories.results(started.generation)).st_size > 0


async def _generation(machine: Machine) -> GenerationStarted:
    started = machine.codec.decode((await machine.events("generation_started"))[-1])
    assert isinstance(started, GenerationStarted)
    return started


async def _kill_generation(machine: Machine) -> str:
    """Kill the action server of the newest generation, as an out-of-memory killer would."""
    started = await _generation(machine)
    _kill_children(int(started.handle["pid"]))
    return started.generation


def _kill_children(reaper: int) -> None:
    with open(f"/proc/{reaper}/task/{reaper}/children") as children:
        for child in children.read().split():
            # Once its server is dead the reaper ends the others, and itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)


def _marked(generation: str) -> list[str]:
    found: list[str] = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment:
                if generation.encode() in environment.read():
                    found.append(pid)
        except OSError:
            continue
    return found
