"""What an author of a runtime tests with: the contract that every runtime keeps, and a worker reduced to frames."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames, process_tree
from chronicled.runtimes.frame_worker import WAIT_SECONDS, FrameWorker, eventually, make_spec
from chronicled.runtimes.runtime import Runtime, Sandbox, SandboxSpec

__all__ = ["FrameWorker", "RuntimeContract", "eventually", "make_spec"]


class RuntimeContract:
    """What every runtime promises. Subclass it with fixtures `runtime` and, if need be, `directory` and `spec`."""

    transfer: ClassVar[frames.Transfer] = "descriptors"
    """How spools reach its sandboxes; `inband` where no descriptor can."""

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """Folder for sandboxes, sockets and spools; a runtime with an engine of its own may need another."""
        return tmp_path

    @pytest.fixture
    def spec(self, directory: Path) -> SandboxSpec:
        """What the tests start."""
        return make_spec(directory)

    @pytest.fixture
    async def worker(self, spec: SandboxSpec, directory: Path) -> AsyncIterator[FrameWorker]:
        """A worker that listens."""
        worker = FrameWorker(spec, directory, self.transfer)
        worker.listen()
        yield worker
        await worker.close()

    @pytest.fixture
    async def sandbox(self, runtime: Runtime, spec: SandboxSpec, worker: FrameWorker) -> AsyncIterator[Sandbox]:
        """A started sandbox that has been welcomed."""
        sandbox = await runtime.start(spec)
        await worker.connect()
        await sandbox.greeted()
        yield sandbox
        await sandbox.kill()
        await runtime.remove(spec.sandbox)

    async def test_hello_names_generation_build_and_kinds(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """The first frame says which generation dials, what it speaks, and what it can execute."""
        assert worker.hello is not None
        assert worker.hello.generation == worker.spec.generation
        assert worker.hello.protocol_min <= frames.PROTOCOL <= worker.hello.protocol
        assert {"run", "read", "write"} <= set(worker.hello.kinds)
        assert worker.hello.fence == 0

    async def test_run_keeps_the_shell_from_action_to_action(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """Variables and directory of a lane last; exit code, directory and output are exact."""
        result, output = await worker.run("cd /; name=value; echo out; echo err >&2; (exit 7)")
        assert (result.outcome, result.effects, output) == (Outcome.FAILED, Effects.COMPLETE, b"out\nerr\n")
        assert (result.fields["exit_code"], result.fields["working_directory"]) == (7, "/")
        result, output = await worker.run("echo $? $name $PWD")
        assert (result.outcome, output) == (Outcome.OK, b"7 value /\n")

    async def test_lanes_run_side_by_side(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """An action of one lane ends while an earlier one of another lane still runs."""
        waiting = await worker.dispatch("run", {"command": "read line; echo $line"}, lane="slow")
        await worker.frame(frames.Started, action=waiting)
        result, _ = await worker.run("true", lane="fast")
        assert result.outcome is Outcome.OK
        assert waiting not in worker.results
        await worker.send(frames.Input(action=waiting, data=b"typed\n"))
        assert (await worker.result(waiting)).outcome is Outcome.OK
        assert worker.output(waiting) == b"typed\n"

    async def test_read_returns_what_write_wrote(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """A written file reads back, with relative paths from where the lane is; a missing one is a failure."""
        await worker.run("mkdir -p inner && cd inner")
        written = await worker.dispatch("write", {"path": "a/b.txt", "content": "one\ntwo\nthree\n"})
        assert (await worker.result(written)).fields["existed"] is False
        read = await worker.dispatch("read", {"path": "a/b.txt", "line_first": 2, "line_last": 2})
        fields = (await worker.result(read)).fields
        assert (fields["content"], fields["line_count"], fields["encoding"]) == ("two\n", 3, "utf-8")
        missing = await worker.result(await worker.dispatch("read", {"path": "none"}))
        assert (missing.outcome, missing.reason) == (Outcome.FAILED, "not_found")

    async def test_output_is_announced_while_the_action_runs(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """What a running action printed is in its spool, and announced, before the action ends."""
        action = await worker.dispatch("run", {"command": "echo early; read line"})
        await worker.frame(frames.Output, action=action, size=6)
        assert worker.output(action) == b"early\n"
        await worker.send(frames.Cancel(action=action))
        await worker.result(action)

    async def test_cancel_ends_what_the_action_started(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """A cancelled action leaves no process, not even a detached one; what ran before it stays."""
        detached, waited = _unlike_others(2)
        _, before = await worker.run("sleep 3001 & echo $!")
        command = f"setsid nohup sleep {detached} & echo up; sleep {waited}"
        action = await worker.dispatch("run", {"command": command})
        await worker.until(lambda: worker.output_path(action).exists() and b"up" in worker.output(action))
        async with _seconds_that_ran() as seconds:
            await worker.send(frames.Cancel(action=action))
            result = await worker.result(action)
            assert seconds() < 3.0
        assert (result.outcome, result.effects) == (Outcome.CANCELLED, Effects.POSSIBLE)
        _, listed = await worker.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", lane="other")
        assert f"sleep {detached}".encode() not in listed
        assert f"sleep {waited}".encode() not in listed
        # In the shell of before, which has come back.
        result, _ = await worker.run(f"kill -0 {before.split()[-1].decode()}")
        assert (result.fields["exit_code"], result.state_lost) == (0, False)

    async def test_command_deadline_is_kept_and_named(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """An action over its deadline is over two seconds later, and the result names the deadline."""
        async with _seconds_that_ran() as seconds:
            result, _ = await worker.run("trap '' INT TERM; while :; do sleep 1; done", timeout_seconds=0.3)
            assert seconds() < 2.3
        assert (result.outcome, result.deadline, result.effects) == (Outcome.TIMEOUT, "command", Effects.POSSIBLE)

    async def test_an_action_is_executed_once(self, worker: FrameWorker, sandbox: Sandbox, directory: Path) -> None:
        """The same id again, running, done or settled, is answered (in-band once a link) and not executed."""
        action = await worker.dispatch("run", {"command": "echo once >>count; read line"})
        await worker.frame(frames.Started, action=action)
        await worker.dispatch("run", {"command": "echo once >>count"}, action=action)
        status = await worker.frame(frames.Status)
        assert status.running == [action]
        await worker.send(frames.Input(action=action, data=b"\n"))
        first = await worker.result(action)
        for settled in (False, True):
            if settled:
                await worker.send(frames.Settle(action=action))
            worker.results.clear()
            await worker.dispatch("run", {"command": "echo once >>count"}, action=action)
            if self.transfer == "descriptors":
                assert await worker.result(action) == first
        _, output = await worker.run("cat count")
        assert output == b"once\n"

    async def test_an_unknown_kind_ends_as_an_error(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """A kind that nothing executes never ran, and the result says so."""
        result = await worker.result(await worker.dispatch("acme.probe", {}))
        assert (result.outcome, result.effects, result.reason) == (Outcome.ERROR, Effects.NONE, "no_executor")

    async def test_results_survive_the_worker(
        self, runtime: Runtime, worker: FrameWorker, sandbox: Sandbox, directory: Path
    ) -> None:
        """What ends while no worker is there is in the spool, and is told to the next worker until it settles."""
        action = await worker.dispatch("run", {"command": "read -t 0.3 line; echo late; exit 0"})
        await worker.frame(frames.Started, action=action)
        await worker.close()
        if self.transfer == "descriptors":
            # In-band the server keeps it to itself until there is somebody to send it to.
            await eventually(lambda: [result for result in worker.spooled() if result.action == action])
        successor = FrameWorker(worker.spec, directory, self.transfer)
        successor.listen()
        try:
            hello = await successor.connect(fence=2)
            assert hello.fence == 1
            result = await successor.result(action)
            assert result.outcome is Outcome.OK
            assert successor.output(action).startswith(b"late\n")
            await successor.send(frames.Query())
            assert (await successor.frame(frames.Status)).done == [action]
            attached = await runtime.attach(sandbox.handle, worker.spec)
            assert attached is not None
        finally:
            await successor.close()

    async def test_a_higher_fence_takes_over(self, worker: FrameWorker, sandbox: Sandbox, directory: Path) -> None:
        """A newer worker gets the server even while the older one still holds its connection; the older is cut off."""
        successor = FrameWorker(worker.spec, directory, self.transfer)
        successor.listen()
        try:
            await successor.connect(fence=7)
            await worker.until(lambda: worker.lost is not None)
            action = await successor.dispatch("run", {"command": "true"}, fence=6)
            await successor.until(lambda: successor.lost is not None)
            assert action not in successor.results
            assert (await successor.frame(frames.Refusal)).code == "stale-fence"
        finally:
            await successor.close()

    async def test_kill_leaves_no_process(self, runtime: Runtime, worker: FrameWorker, sandbox: Sandbox) -> None:
        """After `kill` nothing of the generation lives, and `attach` says that it is dead."""
        one, two, three = names = _unlike_others(3)
        await worker.run(f"env -i setsid sleep {one} & (setsid nohup sleep {two} &); trap '' TERM; sleep {three} &")
        waiting = asyncio.create_task(sandbox.wait_ended())
        await sandbox.kill()
        assert await waiting
        assert not _sleeping(*names)
        assert await runtime.attach(sandbox.handle, worker.spec) is None
        await sandbox.kill()

    async def test_the_servers_death_ends_the_generation(
        self, runtime: Runtime, worker: FrameWorker, sandbox: Sandbox
    ) -> None:
        """When the action server is killed, nothing that it ran lives once `wait_ended` returns."""
        one, two = names = _unlike_others(2)
        await worker.run(f"env -i setsid sleep {one} & (setsid nohup sleep {two} &)")
        assert worker.connection is not None
        # Its pid on this machine, whatever it is where the server lives.
        os.kill(worker.connection.peer.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_SECONDS):
            await sandbox.wait_ended()
        assert not _sleeping(*names)
        assert await runtime.attach(sandbox.handle, worker.spec) is None

    async def test_shutdown_ends_the_generation(self, worker: FrameWorker, sandbox: Sandbox) -> None:
        """A `Shutdown` frame ends the server and everything below it."""
        (name,) = _unlike_others(1)
        await worker.run(f"sleep {name} &")
        await worker.send(frames.Shutdown())
        async with asyncio.timeout(WAIT_SECONDS):
            assert await sandbox.wait_ended() == "ended"
        assert not _sleeping(name)

    async def test_an_unclaimed_sandbox_ends_itself(self, worker: FrameWorker, runtime: Runtime) -> None:
        """Without a worker for the time that the last one named, the generation ends."""
        sandbox = await runtime.start(worker.spec)
        await worker.connect(unclaimed_seconds_max=0.2)
        await worker.close()
        async with asyncio.timeout(WAIT_SECONDS):
            assert await sandbox.wait_ended()

    async def test_sweep_removes_what_is_not_known(
        self, runtime: Runtime, worker: FrameWorker, sandbox: Sandbox
    ) -> None:
        """Sweeping spares known sandboxes, ends and removes the others, and names them."""
        assert worker.spec.sandbox not in await runtime.sweep([worker.spec.sandbox])
        result, _ = await worker.run("true")
        assert result.outcome is Outcome.OK
        assert worker.spec.sandbox in await runtime.sweep([])
        async with asyncio.timeout(WAIT_SECONDS):
            await sandbox.wait_ended()


@contextlib.asynccontextmanager
async def _seconds_that_ran() -> AsyncGenerator[Callable[[], float]]:
    """Give what tells how long this machine has run since: nobody can keep a promise while it stands still."""
    loop = asyncio.get_running_loop()
    counted, last = 0.0, loop.time()

    def seconds() -> float:
        nonlocal counted, last
        now = loop.time()
        # Who asks for a turn each hundredth of a second has it within a tenth, unless nobody has one.
        counted, last = counted + min(now - last, 0.1), now
        return counted

    async def look() -> None:
        while True:
            await asyncio.sleep(0.01)
            seconds()

    looking = loop.create_task(look())
    try:
        yield seconds
    finally:
        looking.cancel()
        await asyncio.wait((looking,))


def _unlike_others(count: int) -> list[str]:
    """Return seconds of sleep by which the processes of one test are known: others keep the contract beside it."""
    chance = random.SystemRandom()
    return [str(chance.randrange(100_000_000, 1_000_000_000)) for _ in range(count)]


def _sleeping(*seconds: str) -> list[process_tree.Process]:
    """Return the living `sleep` processes with one of these arguments."""
    found: list[process_tree.Process] = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace").split("\0")
                known = process_tree.identify(int(name))
                if words[:1] == ["sleep"] and words[1] in seconds and known is not None and known[2] not in b"ZX":
                    found.append(known[0])
    return found
