"""Memory of a migration and of a rewrite does not grow with the log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.golden.databases import take_back, write

ROOT = Path(__file__).parents[2]
EVENTS = (12_000, 60_000)
# SQLite's caches fill up to 16 MiB, which the short log does not. A row of these events takes some 900 bytes in Python:
# to have all of them in memory would be 43 MB more.
GROWTH_BYTES_MAX = 24 << 20
PARTS = {
    "migrate": "asyncio.run(open_and_close(path))",
    "rewrite": "rewrite(path.parent, path.parent.with_name('new'), vocabulary())",
}
PROGRAM = """
import asyncio, sys
from pathlib import Path
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.rewrite import rewrite
from chronicled.storage.sqlite import SqliteStore
async def open_and_close(path):
    await (await SqliteStore.open(path)).aclose()
path = Path(sys.argv[1])
{part}
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(int(line.split()[1]) * 1024)
"""


def peak(part: str, path: Path) -> int:
    """Return the peak memory in bytes of a process that does that part."""
    command = [sys.executable, "-c", PROGRAM.format(part=PARTS[part]), str(path)]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout)


@pytest.mark.parametrize("part", sorted(PARTS))
def test_five_times_the_events_take_no_more_memory(tmp_path: Path, part: str) -> None:
    """What a long log needs at its peak is what a short one needs, but for caches, which have their bound."""
    peaks: list[int] = []
    for events in EVENTS:
        path = tmp_path / str(events) / "old" / "log.sqlite"
        path.parent.mkdir(parents=True)
        asyncio.run(write(path, events))
        take_back(path, 1)
        peaks.append(peak(part, path))
    assert peaks[1] - peaks[0] < GROWTH_BYTES_MAX, peaks
