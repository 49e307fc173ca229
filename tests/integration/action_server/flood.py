"""Print 128 MB to a worker that takes nothing, and tell how much this process's peak memory has grown for it.

With `unbounded` as argument the bounds of what is kept in memory are gone.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chronicled.runtimes.action_server import backlog, frames
from chronicled.runtimes.action_server.output_stream import OutputStreams

PIECE = bytes(1 << 16)
PIECES = 2048


def peak_bytes() -> int:
    """Return the most memory that this process ever had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def flood() -> int:
    """Print it all."""
    streams = OutputStreams("token", backlog.SpillRoom(("/tmp",)))
    dispatch = frames.Dispatch(
        action="a", fence=1, lane="", kind="run", version=1, payload=b"", timeout_seconds=None, output_bytes_max=1 << 40
    )
    stream = streams.begin(dispatch)
    before = peak_bytes()
    for _ in range(PIECES):
        stream.write(memoryview(PIECE))
    assert stream.bytes_kept == PIECES * len(PIECE)
    return peak_bytes() - before


if __name__ == "__main__":
    if sys.argv[1:] == ["unbounded"]:
        backlog.MEMORY_BYTES_MAX = backlog.MEMORY_BYTES_SUM = 1 << 40  # type: ignore[misc]  # the control
    print(asyncio.run(flood()))
