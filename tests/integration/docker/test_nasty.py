"""Commands that do not want to end, in a container."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from pathlib import Path

import pytest
from tests.awake import awake
from tests.engine.fixture import DEBIAN
from tests.engine.own import OwnEngine
from tests.integration.action_server.nasty import NASTY
from tests.integration.docker.host import isolated, running, runtime_of, serving

from chronicled.events.outcome import Outcome
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import FrameWorker

pytestmark = pytest.mark.usefixtures("engine")

DEADLINE_SECONDS = 0.4
SANDBOXES = 2
SELF_DEFEATING = {"killed lane reaper", "stopped reaper, killed lane reaper"}
"""What may end by its own hand before its deadline."""
WITHOUT_TERMINAL = {"reads /dev/tty for ever"}
"""What fails at once under gVisor, which opens no /dev/tty."""
LATE_SECONDS = 2.0
LATE_SECONDS_GVISOR = 20.0
"""There a fork takes milliseconds, and so does each look at hundreds of processes: no promise, but a bound.

On a busy machine a storm of forks took 5 s to end: it is seen through now, where it was dropped after five.
"""
OURS = ("bootstrap.py", "--noediting", "docker-init", "/sbin/docker-init")


async def living(worker: FrameWorker) -> list[str]:
    """Return the command lines of all processes of the container that are not ours, the dead left out."""
    _, output = await worker.run("ps -ww -e -o stat=,args= --no-headers", lane="watch")
    lines = [line.split(maxsplit=1) for line in output.decode(errors="replace").splitlines()]
    return [
        words for state, words in lines if state[0] not in "ZX" and not words.startswith("ps -ww") and not _ours(words)
    ]


def _ours(words: str) -> bool:
    return any(each in words for each in OURS)


async def outlast(
    runtime: DockerRuntime, directory: Path, commands: Mapping[str, str], late_seconds: float, failing: Set[str]
) -> None:
    """Run the commands one after another in one sandbox; fail where one is late, or something of it lives."""
    late: dict[str, float] = {}
    left: dict[str, list[str]] = {}
    await asyncio.to_thread(directory.mkdir)
    async with serving(runtime, directory, image=DEBIAN) as (worker, *_):
        assert await living(worker) == []
        for name, command in commands.items():
            begun = awake()
            result, _ = await worker.run(command, lane=name, timeout_seconds=DEADLINE_SECONDS, output_bytes_max=1 << 20)
            seconds = awake() - begun - DEADLINE_SECONDS
            if seconds > late_seconds:
                late[name] = seconds
            if found := await living(worker):
                left[name] = found
            # None of the others has just failed: each would have gone on.
            ends = {Outcome.TIMEOUT, Outcome.KILLED} if name in SELF_DEFEATING else {Outcome.TIMEOUT}
            if name in failing:
                ends = {Outcome.FAILED}
            assert result.outcome in ends, (command, result)
        # Before the control, which what is left would keep from being seen alone.
        assert (late, left) == ({}, {})
        # The negative control: what lives is seen, once the shell's child has become it.
        await worker.run("setsid sleep 700 &", lane="control")
        async with asyncio.timeout(10):
            while await living(worker) != ["sleep 700"]:
                continue


async def outlast_all(
    runtime: DockerRuntime, directory: Path, late_seconds: float = LATE_SECONDS, failing: Set[str] = frozenset()
) -> None:
    """Run all of them, shared out among sandboxes side by side: they mostly wait."""
    async with running(runtime), asyncio.TaskGroup() as tasks:
        for share in range(SANDBOXES):
            commands = dict(list(NASTY.items())[share::SANDBOXES])
            tasks.create_task(outlast(runtime, directory / str(share), commands, late_seconds, failing))


@pytest.mark.slow
async def test_nasty_commands_are_over_at_their_deadline_in_a_container(tmp_path: Path) -> None:
    """Each is over two seconds after its deadline, and no process of it lives, whoever its parent has become."""
    await outlast_all(runtime_of(processes_max=2000), tmp_path)


@pytest.mark.slow
async def test_nasty_commands_are_over_at_their_deadline_under_gvisor(gvisor: OwnEngine, tmp_path: Path) -> None:
    """So are they, if later, under a kernel that keeps no orphans in the tree and does not say what is in front."""
    await outlast_all(isolated(gvisor.host, processes_max=2000), tmp_path, LATE_SECONDS_GVISOR, WITHOUT_TERMINAL)
