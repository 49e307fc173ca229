"""Commands that do not want to end, in a container."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.engine.fixture import DEBIAN
from tests.integration.action_server.nasty import NASTY
from tests.integration.docker.host import running, runtime_of, serving

from chronicled.events.outcome import Outcome
from chronicled.runtimes.testing import FrameWorker

pytestmark = pytest.mark.usefixtures("engine")

DEADLINE_SECONDS = 0.4
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


@pytest.mark.slow
async def test_nasty_commands_are_over_at_their_deadline_in_a_container(tmp_path: Path) -> None:
    """Each is over two seconds after its deadline, and no process of it lives, whoever its parent has become."""
    runtime = runtime_of(processes_max=2000)
    late: dict[str, float] = {}
    left: dict[str, list[str]] = {}
    async with running(runtime), serving(runtime, tmp_path, image=DEBIAN) as (worker, *_):
        assert await living(worker) == []
        for name, command in NASTY.items():
            begun = time.monotonic()
            result, _ = await worker.run(command, lane=name, timeout_seconds=DEADLINE_SECONDS, output_bytes_max=1 << 20)
            seconds = time.monotonic() - begun - DEADLINE_SECONDS
            if seconds > 2.0:
                late[name] = seconds
            if found := await living(worker):
                left[name] = found
            assert result.outcome in (Outcome.TIMEOUT, Outcome.KILLED, Outcome.FAILED), (command, result)
        await worker.run("setsid sleep 700 &", lane="control")
        assert await living(worker) == ["sleep 700"]
    assert (late, left) == ({}, {})
