from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.awake import within
from tests.integration.docker.host import docker, running, runtime_of, serving

from chronicled.events.errors import SandboxError, SandboxStartFailed
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.docker import sandbox as sandbox_module
from chronicled.runtimes.docker.kernel_kills import KernelKills
from chronicled.runtimes.runtime import MemoryMark
from chronicled.runtimes.testing import FrameWorker, make_spec

pytestmark = pytest.mark.usefixtures("engine")

END_SECONDS = 5.0

EAT = "tail /dev/zero"
"""Takes memory until there is none."""


def kill_first(name: str) -> None:
    """Kill the container's first process from outside, as a process of this machine."""
    os.kill(int(docker("inspect", "-f", "{{.State.Pid}}", name)), signal.SIGKILL)


def prefer(process: int) -> None:
    """Have the kernel kill this process when its container wants memory, and no other one that is there or comes."""
    namespace = os.readlink(f"/proc/{process}/ns/pid")
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and os.readlink(entry / "ns" / "pid") == namespace:
                (entry / "oom_score_adj").write_text("1000" if entry.name == str(process) else "-999")


OUTSIDE: dict[str, tuple[Callable[[str], object], str]] = {
    "docker kill": (lambda name: docker("kill", name), "killed"),
    "docker kill of a paused one": (lambda name: (docker("pause", name), docker("kill", name)), "killed"),
    "docker rm -f": (lambda name: docker("rm", "-f", name), "removed"),
    "docker stop": (lambda name: docker("stop", name), "terminated"),
    "docker restart": (lambda name: docker("restart", name), "terminated|restarted|server-exit-1"),
    "kill of process 1": (kill_first, "killed"),
    "docker kill -s QUIT": (lambda name: docker("kill", "-s", "QUIT", name), "killed-signal-3"),
}


@pytest.mark.parametrize("way", sorted(OUTSIDE))
async def test_an_end_from_outside_is_named(way: str, tmp_path: Path) -> None:
    """Who ends a container ends its generation: told with its reason within five seconds, and neighbours live on."""
    act, reasons = OUTSIDE[way]
    runtime = runtime_of()
    async with (
        running(runtime),
        serving(runtime, tmp_path) as (worker, sandbox, spec),
        serving(runtime, tmp_path) as (neighbour, other, _),
    ):
        await worker.run("sleep 5001 &")
        waiting = asyncio.create_task(sandbox.wait_ended())
        await asyncio.to_thread(act, f"chronicled-{spec.sandbox}")
        async with within(END_SECONDS):
            reason = await waiting
        assert reason in reasons.split("|")
        assert await runtime.attach(sandbox.handle, spec) is None
        assert await runtime.epitaph(sandbox.handle, spec) in {reason, "removed"}
        _, output = await neighbour.run("echo alive")
        assert output == b"alive\n"
        assert await runtime.attach(other.handle, neighbour.spec) is not None


async def test_the_servers_own_end_is_named(tmp_path: Path) -> None:
    """A server that is killed inside, or told to go, ends the generation with its own reason."""
    runtime = runtime_of()
    async with running(runtime):
        async with serving(runtime, tmp_path) as (worker, sandbox, _):
            assert worker.connection is not None
            os.kill(worker.connection.peer.pid, signal.SIGSEGV)
            async with within(END_SECONDS):
                assert await sandbox.wait_ended() == "server-signal-11"
        async with serving(runtime, tmp_path) as (worker, sandbox, _):
            await worker.send(frames.Shutdown())
            async with within(END_SECONDS):
                assert await sandbox.wait_ended() == "ended"


def _unreadable(_kills: KernelKills) -> int | None:
    return None


@pytest.mark.parametrize("counts", ["kernel", "notices"])
async def test_a_command_out_of_memory_is_noticed_and_the_sandbox_lives(
    tmp_path: Path, counts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the kernel kills a command for want of memory the runtime knows, and a kill right after it is only a kill.

    Also where only the engine's notices can tell, of which one want of memory may bring several, one after the other.
    """
    if counts == "notices":
        monkeypatch.setattr(KernelKills, "read", _unreadable)
    runtime = runtime_of(memory_bytes=64 << 20)
    async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, _):
        before = sandbox.memory_mark()
        assert not await sandbox.ran_out_of_memory(before)
        for _ in range(3):
            before = sandbox.memory_mark()
            result, _ = await worker.run(EAT)
            assert result.fields["exit_code"] == 137
            assert await sandbox.ran_out_of_memory(before)
            before = sandbox.memory_mark()
            result, output = await worker.run("echo alive; (exit 137)")
            assert output == b"alive\n"
            assert not await sandbox.ran_out_of_memory(before)


async def test_a_kill_after_a_want_of_memory_is_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's kill is not taken for the kernel's because the kernel had killed something earlier."""
    runtime = runtime_of(memory_bytes=64 << 20)
    async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, spec):
        before = sandbox.memory_mark()
        await worker.run(EAT)
        assert await sandbox.ran_out_of_memory(before)
        monkeypatch.setattr(sandbox_module, "SHORTAGE_NANOSECONDS", 10**9)
        # The engine's times are whole seconds here: longer than the span, and a second for each rounding.
        await asyncio.sleep(3.0)
        await asyncio.to_thread(docker, "kill", f"chronicled-{spec.sandbox}")
        async with within(END_SECONDS):
            assert await sandbox.wait_ended() == "killed"


async def test_a_sandbox_that_is_found_again_tells_of_earlier_want(tmp_path: Path) -> None:
    """What the kernel killed while no worker was there is known to the next one: what began before, and what after."""
    runtime = runtime_of(memory_bytes=64 << 20)
    successor = runtime_of(instance=runtime.instance)
    async with running(successor):
        try:
            async with serving(runtime, tmp_path) as (worker, sandbox, spec):
                before = MemoryMark(time.time_ns())
                await worker.run(EAT)
                found = await successor.attach(sandbox.handle, spec)
                assert found is not None
                assert await found.ran_out_of_memory(before)
                assert not await found.ran_out_of_memory(MemoryMark(time.time_ns()))
                assert not await found.ran_out_of_memory(found.memory_mark())
        finally:
            await runtime.engine.aclose()


async def test_a_server_out_of_memory_ends_as_such(tmp_path: Path) -> None:
    """When it is the action server that the kernel kills for want of memory, the generation's end says so."""
    runtime = runtime_of(memory_bytes=64 << 20)
    async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, _):
        assert worker.connection is not None
        # The shell is there already: what it starts has its score.
        await worker.run("true")
        prefer(worker.connection.peer.pid)
        await worker.dispatch("run", {"command": EAT})
        async with asyncio.timeout(20.0):
            assert await sandbox.wait_ended() == "oom_killed"


async def test_pause_stops_and_resume_goes_on(tmp_path: Path) -> None:
    """A paused sandbox does nothing and keeps everything; both ways may be asked for twice."""
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, spec):
        await worker.run("name=kept; cd /tmp")
        await sandbox.pause()
        await sandbox.pause()
        state = await asyncio.to_thread(docker, "inspect", "-f", "{{.State.Status}}", f"chronicled-{spec.sandbox}")
        assert state == "paused"
        action = await worker.dispatch("run", {"command": "echo $name $PWD"})
        with pytest.raises(TimeoutError):
            await worker.result(action, seconds=0.3)
        assert await runtime.attach(sandbox.handle, spec) is not None
        await sandbox.resume()
        await sandbox.resume()
        await worker.result(action)
        assert worker.output(action) == b"kept /tmp\n"
        await sandbox.pause()
        await sandbox.kill()
        with pytest.raises(SandboxError):
            await sandbox.pause()
        with pytest.raises(SandboxError):
            await sandbox.resume()


async def test_kill_is_proven_and_remove_leaves_nothing(tmp_path: Path) -> None:
    """After `kill` the container does not run, and still tells why; after `remove` there is none."""
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path) as (_, sandbox, spec):
        assert await sandbox.kill() == 1
        assert await sandbox.kill() == 0
        assert await runtime.epitaph(sandbox.handle, spec) == "killed"
        await runtime.remove(spec.sandbox)
        assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []
        assert await runtime.attach(sandbox.handle, spec) is None
        await runtime.remove(spec.sandbox)


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    """Whenever a start is cancelled, no container is there once the cancellation has gone through."""
    runtime = runtime_of()
    async with running(runtime):
        begun = time.monotonic()
        async with serving(runtime, tmp_path):
            whole = time.monotonic() - begun
        for part in range(8):
            spec = make_spec(tmp_path)
            starting = asyncio.create_task(runtime.start(spec))
            await asyncio.sleep(whole * part / 8)
            starting.cancel()
            await asyncio.wait((starting,))
            if not starting.cancelled():
                # It was faster.
                await starting.result().greeted()
                await runtime.remove(spec.sandbox)
            assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []
            assert not (Path(spec.socket_directory) / "settings").exists()


async def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An image that is not there, or an engine that is not, fails the start by name."""
    runtime = runtime_of()
    async with running(runtime):
        with pytest.raises(SandboxStartFailed, match="none-such"):
            await runtime.start(make_spec(tmp_path, image="chronicled-test/none-such:1"))
        assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []
    absent = runtime_of(f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxStartFailed, match="engine"):
        await absent.start(make_spec(tmp_path))
    await absent.engine.aclose()


async def test_settings_do_not_stay_when_nobody_dials(tmp_path: Path) -> None:
    """A sandbox that was removed before its server was greeted leaves no settings behind."""
    runtime = runtime_of()
    async with running(runtime):
        spec = make_spec(tmp_path, request=SandboxRequest())
        worker = FrameWorker(spec, tmp_path)
        worker.listen()
        await runtime.start(spec)
        assert (Path(spec.socket_directory) / "settings").exists()
        await runtime.remove(spec.sandbox)
        await worker.close()
