"""Who waits for whom: a command never waits for a worker that is away, and nobody's memory grows for another's sake."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from tests.integration.action_server import flood

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.output_stream import STALL_SECONDS
from chronicled.runtimes.process import ProcessSandbox
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import FrameWorker, eventually

FLOOD = "head -c 40000000 /dev/zero; echo done >done"
MEGABYTE = 1 << 20


@pytest.fixture
async def worker(tmp_path: Path, spec: SandboxSpec, sandbox: ProcessSandbox) -> AsyncIterator[FrameWorker]:
    """A worker that has its outputs sent in-band."""
    worker = FrameWorker(spec, tmp_path, "inband")
    worker.listen()
    await worker.connect()
    yield worker
    await worker.close()


def size_of(worker: FrameWorker, action: str) -> int:
    """Return how much of the action's output is here."""
    return worker.output_path(action).stat().st_size


def has_more(worker: FrameWorker, action: str, than: int) -> bool:
    """Tell whether more of the output is here than that, or its end."""
    return size_of(worker, action) > than or action in worker.results


def is_done(spec: SandboxSpec) -> bool:
    """Tell whether the flood is over."""
    return os.path.exists(f"{spec.working_directory}/done")


async def test_a_command_goes_on_while_its_worker_is_away(worker: FrameWorker, tmp_path: Path) -> None:
    """What is printed meanwhile waits in a file of the server's, and comes whole to the worker that comes next."""
    action = await worker.dispatch("run", {"command": f"sleep 0.05; {FLOOD}"})
    await worker.frame(frames.Started, action=action)
    await worker.close()
    await eventually(lambda: is_done(worker.spec))
    successor = FrameWorker(worker.spec, tmp_path, "inband")
    successor.listen()
    await successor.connect(fence=2)
    result = await successor.result(action)
    assert (result.output_bytes, result.output_dropped_bytes) == (40_000_000, 0)
    assert successor.output(action) == bytes(40_000_000)
    await successor.close()


async def test_a_command_goes_on_while_its_worker_stands_still(worker: FrameWorker) -> None:
    """A worker that is there and takes nothing holds a command up for a second at most, and costs it no deadline."""
    # Less than that second, but not much: a machine that stands still keeps a command quiet too.
    action = await worker.dispatch("run", {"command": FLOOD}, quiet_seconds=0.9 * STALL_SECONDS)
    await worker.stand_still()
    await eventually(lambda: is_done(worker.spec))
    await worker.connect()
    result = await worker.result(action)
    assert (result.outcome, result.output_dropped_bytes) == (Outcome.OK, 0)
    assert worker.output(action) == bytes(40_000_000)


async def test_a_connection_that_is_killed_amidst_output_costs_nothing(worker: FrameWorker) -> None:
    """Killed again and again while a command prints, the connection loses and repeats no byte."""
    action = await worker.dispatch("run", {"command": "seq 1 2000000"})
    for _ in range(8):
        await eventually(partial(has_more, worker, action, size_of(worker, action)))
        assert worker.connection is not None
        worker.connection.close()
        await worker.until(lambda: worker.lost is not None)
        await worker.connect()
    await worker.result(action)
    assert worker.output(action) == b"".join(b"%d\n" % number for number in range(1, 2_000_001))


async def test_a_flood_starves_nobody_and_takes_no_memory(worker: FrameWorker) -> None:
    """While two lanes print as fast as they can, a third one's commands are answered at once."""
    assert worker.hello is not None
    await worker.run("true", lane="third")
    before = peak_bytes(worker.hello.pid)
    flooding = [
        await worker.dispatch("run", {"command": "cat /dev/zero"}, lane=lane, output_bytes_max=1 << 40)
        for lane in ("first", "second")
    ]
    await eventually(lambda: all(size_of(worker, action) > MEGABYTE for action in flooding))
    taken: list[float] = []
    for _ in range(40):
        begun = time.monotonic()
        result, _output = await worker.run("echo x", lane="third")
        taken.append(time.monotonic() - begun)
        assert result.outcome is Outcome.OK
    for action in flooding:
        await worker.send(frames.Cancel(action=action))
        result = await worker.result(action)
        assert size_of(worker, action) == result.output_bytes
        worker.output_path(action).unlink()
    assert statistics.median(taken) < 0.1
    assert peak_bytes(worker.hello.pid) - before < 24 * MEGABYTE


def peak_bytes(pid: int) -> int:
    """Return the most memory that the process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def grown_bytes(*options: str) -> int:
    """Run the flood of a worker that stands still in a process of its own; return how much its peak has grown."""
    command = [sys.executable, str(Path(flood.__file__)), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment).stdout)


async def test_output_that_nobody_takes_is_not_kept_in_memory() -> None:
    """128 MB that a worker does not take cost the server a few MB; without its bound (control) they cost all of it."""
    bounded = await asyncio.to_thread(grown_bytes)
    unbounded = await asyncio.to_thread(grown_bytes, "unbounded")
    assert bounded < 24 * MEGABYTE
    assert unbounded > 100 * MEGABYTE
