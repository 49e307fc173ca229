from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.integration.daemon.process import DaemonProcess
from tests.integration.daemon.test_actions import ACTIONS, run
from tests.integration.daemon.test_events import SSE, think

LAG_SECONDS_MAX = 0.25
"""Held up for longer means blocked."""
PROGRAM = """
import asyncio, os, sys, time
from chronicled.daemon import application, configuration
from chronicled.daemon.submission import Submission

# Its second figure: for how long, in ns, this thread could have run while others had the processors (sched-stats.rst
# of the kernel). The loop's clock leaves that out, for it is not the daemon's; whatever it waits for or does counts.
delays = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
def seconds(loop):
    return time.monotonic() - int(os.pread(delays, 100, 0).split()[1]) / 1e9
asyncio.BaseEventLoop.time = seconds

prepare = Submission.prepare
def slow(*arguments, **options):
    time.sleep({blocked_seconds})
    return prepare(*arguments, **options)
if {blocked_seconds}:
    Submission.prepare = slow

settings = dict(each.split("=", 1) for each in sys.argv[1:])
sys.exit(application.serve(configuration.load(flags=settings)))
"""
"""A daemon whose loop has such a clock, and whose submissions block for so long."""
SLOW = re.compile(r"Executing (.*) took ([0-9.]+) seconds")


async def watched(directory: Path, *, blocked_seconds: float) -> DaemonProcess:
    """Return a daemon in asyncio's debug mode, started."""
    script = directory / "watched.py"
    script.write_text(PROGRAM.format(blocked_seconds=blocked_seconds))
    daemon = DaemonProcess(directory, environment={"PYTHONASYNCIODEBUG": "1"}, program=(str(script),))
    return await daemon.start()


def slow_callbacks(daemon: DaemonProcess) -> list[tuple[str, float]]:
    """Return what asyncio, in debug mode, said of callbacks that held the loop up, and for how long."""
    return [(what, float(seconds)) for what, seconds in SLOW.findall(daemon.log.read_text())]


async def busy(daemon: DaemonProcess) -> None:
    """Use every part: followers, big payloads, big outputs, long lists, pages, the document, a verification."""
    await daemon.post("/v1/sessions", {"session": "s"})
    followers = [await daemon.client.get("/v1/events", headers=SSE) for _ in range(5)]
    big = think("x" * 300_000)
    await asyncio.gather(*(daemon.post(ACTIONS, big) for _ in range(20)))
    await asyncio.gather(*(daemon.post(ACTIONS, [think()] * 200) for _ in range(10)))
    await daemon.post(ACTIONS, run("head -c 20000000 /dev/zero | tr '\\0' 'x'"), headers={"Prefer": "wait=30"})
    await asyncio.gather(*(daemon.get("/v1/events?limit=1000") for _ in range(5)))
    await daemon.get("/openapi.json")
    for response in followers:
        response.close()


async def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    """Under work of every kind no callback holds the daemon's event loop up, and its own monitor agrees."""
    daemon = await watched(tmp_path, blocked_seconds=0)
    try:
        await busy(daemon)
        lag = await daemon.metric("loop_lag_seconds_max")
    finally:
        await daemon.aclose()
    assert [each for each in slow_callbacks(daemon) if each[1] > LAG_SECONDS_MAX] == []
    assert lag < LAG_SECONDS_MAX


@pytest.mark.parametrize("seconds", [0.4])
async def test_a_blocking_call_would_be_noticed(tmp_path: Path, seconds: float) -> None:
    """Negative control: with one blocking call in the submission's way both detectors speak up."""
    daemon = await watched(tmp_path, blocked_seconds=seconds)
    try:
        await daemon.post("/v1/sessions", {"session": "s"})
        await daemon.post(ACTIONS, think())
        lag = await daemon.metric("loop_lag_seconds_max")
    finally:
        await daemon.aclose()
    assert any(held > LAG_SECONDS_MAX for _, held in slow_callbacks(daemon))
    assert lag > LAG_SECONDS_MAX
