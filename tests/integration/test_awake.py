"""The clock by which tests bound what the product takes: a negative control of theirs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.awake import within

ROOT = Path(__file__).parents[2]
MEASURED = """
import sys, time
from tests.awake import awake
begin = awake()
print("begun", flush=True)
sys.stdin.read()
print(awake() - begin)
"""
STOPPED_SECONDS = 2.0


def test_time_in_which_nothing_runs_does_not_count() -> None:
    """For a process that was stopped, that time has not passed."""
    command = [sys.executable, "-c", MEASURED]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(STOPPED_SECONDS)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate()
        whole = time.monotonic() - begin
    assert float(told) < whole - STOPPED_SECONDS / 2


async def test_a_block_that_takes_too_long_fails() -> None:
    """What the block itself takes is counted, though in small pieces."""

    async def take() -> None:
        async with within(0.1):
            for _ in range(50):
                await asyncio.sleep(0.01)

    with pytest.raises(AssertionError, match="too long"):
        await take()
