"""Sandboxes that are reached over their standard streams, by a real engine: nothing is shared with the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.fixture import DEBIAN, FILE, MUSL
from tests.engine.fixture import Engine as EngineFixture
from tests.integration.docker.host import docker, running, runtime_of

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.docker.attach_link import AttachLines
from chronicled.runtimes.docker.peers import is_of
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import FrameWorker, make_spec
from chronicled.runtimes.worker.attach_link import AttachLink
from chronicled.runtimes.worker.link import Link


class Speaker:
    """Who speaks to a sandbox over each of its attachments, one after another."""

    def __init__(self, spec: SandboxSpec, directory: Path) -> None:
        self.frames = FrameWorker(spec, directory, "inband")
        self.fence = 0
        self.links: list[Link] = []
        self._welcomed = asyncio.Event()

    async def accept(self, link: Link) -> None:
        """Serve one attachment until it ends."""
        assert isinstance(link, AttachLink)
        self.fence += 1
        self.links.append(link)
        try:
            await self.frames.connect(fence=self.fence, link=link)
        except AssertionError:
            return
        self._welcomed.set()
        await self.frames.until(lambda: self.frames.lost is not None, seconds=600.0)

    async def welcomed(self) -> None:
        """Wait for the next welcome."""
        await asyncio.wait_for(self._welcomed.wait(), 20)
        self._welcomed.clear()


@pytest.fixture(params=[DEBIAN, MUSL, FILE])
async def runtime(request: pytest.FixtureRequest, engine: EngineFixture) -> AsyncIterator[DockerRuntime]:
    """A runtime of which nothing is shared with its sandboxes but the carrier."""
    image: str = request.param
    async with running(runtime_of(transport="stdio", workspace="tmpfs", image=image)) as runtime:
        yield runtime


async def test_actions_run_over_attachments_that_come_and_go(runtime: DockerRuntime, tmp_path: Path) -> None:
    """Output, results, input and a flood get across; a worker that goes and comes again finds all of it."""
    spec = make_spec(tmp_path)
    speaker = Speaker(spec, tmp_path)
    assert runtime.listen is not None
    async with runtime.listen(spec.socket_directory, speaker.accept):
        sandbox = await runtime.start(spec)
        container = str(sandbox.handle["container"])
        await speaker.welcomed()
        result, output = await speaker.frames.run("name=kept; echo out; exit 3; :")
        assert (result.fields["exit_code"], output) == (3, b"out\n")
        result, output = await speaker.frames.run("head -c 20000000 /dev/zero")
        assert (result.outcome, len(output)) == (Outcome.OK, 20_000_000)
        action = await speaker.frames.dispatch(
            "run", {"command": "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); echo $i; done"}
        )
        await speaker.frames.frame(frames.Started, action=action)
        speaker.links[-1].close()
        await speaker.welcomed()
        await speaker.frames.result(action)
        assert speaker.frames.output(action) == b"".join(b"%d\n" % number for number in range(1, 200_001))
    assert spec.token not in docker("inspect", container)
    waiting = await _type_from_anew(runtime, spec, tmp_path, container)
    assert waiting == b"typed\n"
    await sandbox.kill()
    await speaker.frames.close()


async def _type_from_anew(runtime: DockerRuntime, spec: SandboxSpec, directory: Path, container: str) -> bytes:
    lines = AttachLines(runtime.engine)
    lines.open(spec.socket_directory, container, spec.token)
    successor = Speaker(spec, directory)
    successor.fence = 10
    async with lines.listen(spec.socket_directory, successor.accept):
        await successor.welcomed()
        action = await successor.frames.dispatch("run", {"command": "read line; echo $line"})
        await successor.frames.frame(frames.Started, action=action)
        await successor.frames.send(frames.Input(action=action, data=b"typed\n"))
        await successor.frames.result(action)
        output = successor.frames.output(action)
    await successor.frames.close()
    return output


async def test_what_a_command_writes_into_the_stream_is_nobody_s_frame(runtime: DockerRuntime, tmp_path: Path) -> None:
    """A command that finds the container's own standard streams open breaks its attachment, and nothing else."""
    spec = make_spec(tmp_path)
    speaker = Speaker(spec, tmp_path)
    assert runtime.listen is not None
    async with runtime.listen(spec.socket_directory, speaker.accept):
        sandbox = await runtime.start(spec)
        await speaker.welcomed()
        spoil = "for n in 1 2 3; do echo forged >/proc/1/fd/1; echo forged >/proc/1/fd/0; done 2>/dev/null; echo over"
        action = await speaker.frames.dispatch("run", {"command": spoil})
        await speaker.frames.until(lambda: action in speaker.frames.results, seconds=30.0)
        assert speaker.frames.output(action) == b"over\n"
        result = await _run_anyhow(speaker, "echo on")
        assert result.outcome is Outcome.OK
    await sandbox.kill()
    await speaker.frames.close()


async def _run_anyhow(speaker: Speaker, command: str) -> frames.Result:
    """Run a command, sent again as a worker does when the attachment broke under it."""
    action = await speaker.frames.dispatch("run", {"command": command})
    for _ in range(5):
        with contextlib.suppress(TimeoutError):
            return await speaker.frames.result(action, seconds=3.0)
        await speaker.frames.dispatch("run", {"command": command}, action=action)
    raise AssertionError("it never ended")


async def test_who_listens_later_takes_the_sandbox_over(runtime: DockerRuntime, tmp_path: Path) -> None:
    """A session that listens beside the pool gets the attachment, and is not thrown out again by who had it before."""
    spec = make_spec(tmp_path)
    pool, session = Speaker(spec, tmp_path), Speaker(spec, tmp_path)
    session.fence = 10
    assert runtime.listen is not None
    async with runtime.listen(spec.socket_directory, pool.accept):
        sandbox = await runtime.start(spec)
        await pool.welcomed()
        async with runtime.listen(spec.socket_directory, session.accept):
            await session.welcomed()
            await pool.frames.until(lambda: pool.frames.lost is not None)
            for _ in range(20):
                assert (await session.frames.run("echo on"))[1] == b"on\n"
            assert (len(pool.links), len(session.links)) == (1, 1)
    await sandbox.kill()
    for speaker in (pool, session):
        await speaker.frames.close()


async def test_only_processes_of_the_container_may_dial(engine: EngineFixture, tmp_path: Path) -> None:
    """A process of another container or of this host is told from those of the sandbox's own, root or not."""
    names = [
        engine("run", "-d", "--rm", "--network", "none", "--user", user, MUSL, "sleep", "60") for user in ("0", "7")
    ]
    pids = [int(engine("inspect", "-f", "{{.State.Pid}}", name)) for name in names]
    try:
        assert is_of(Peer(pids[0], 0, 0), names[0])
        assert is_of(Peer(pids[1], 7, 7), names[1])
        assert is_of(Peer(pids[1], 7, 7), "")
        assert not is_of(Peer(pids[0], 0, 0), names[1])
        assert not is_of(Peer(pids[1], 7, 7), names[0])
        assert not is_of(Peer(os.getpid(), 0, 0), names[0])
    finally:
        engine("kill", *names)
