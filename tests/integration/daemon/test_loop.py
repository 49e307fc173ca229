from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from tests.integration.daemon.process import DaemonProcess
from tests.integration.daemon.test_actions import ACTIONS, run
from tests.integration.daemon.test_events import SSE, think

LAG_SECONDS_MAX = 0.25
"""Held up for longer means blocked; less than that may be the machine, shared with all that the tests start."""
SLOW = re.compile(r"Executing (.*) took ([0-9.]+) seconds")


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
    daemon = DaemonProcess(tmp_path, environment={"PYTHONASYNCIODEBUG": "1"})
    await daemon.start()
    try:
        await busy(daemon)
        lag = await daemon.metric("loop_lag_seconds_max")
    finally:
        await daemon.aclose()
    assert [each for each in slow_callbacks(daemon) if each[1] > LAG_SECONDS_MAX] == []
    assert lag < LAG_SECONDS_MAX


BLOCKING = """
import sys, time
from chronicled.daemon import application, configuration
from chronicled.daemon.submission import Submission
prepare = Submission.prepare
def slow(*arguments, **options):
    time.sleep({seconds})
    return prepare(*arguments, **options)
Submission.prepare = slow
settings = dict(each.split("=", 1) for each in sys.argv[1:])
sys.exit(application.serve(configuration.load(flags=settings)))
"""


@pytest.mark.parametrize("seconds", [0.4])
async def test_a_blocking_call_would_be_noticed(tmp_path: Path, seconds: float) -> None:
    """Negative control: with one blocking call in the submission's way both detectors speak up."""
    script = tmp_path / "blocking.py"
    script.write_text(BLOCKING.format(seconds=seconds))
    daemon = DaemonProcess(tmp_path, environment={"PYTHONASYNCIODEBUG": "1"}, program=(str(script),))
    await daemon.start()
    try:
        await daemon.post("/v1/sessions", {"session": "s"})
        await daemon.post(ACTIONS, think())
        lag = await daemon.metric("loop_lag_seconds_max")
    finally:
        await daemon.aclose()
    assert any(held > LAG_SECONDS_MAX for _, held in slow_callbacks(daemon))
    assert lag > LAG_SECONDS_MAX
