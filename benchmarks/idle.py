"""What a daemon costs when nothing happens: its memory, and how long it takes to be ready; empty and with 100k events.

The peer is a bare interpreter that imports the third-party libraries alone.

python -m benchmarks.idle
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from benchmarks.figure import Figure, report
from benchmarks.plain_http import Connection
from benchmarks.serving import Served, memory, served

__all__ = ["measure"]

STARTS = 5
EVENTS = 100_000
PER_REQUEST = 250
MEMORY_MAX = 65.0
READY_SECONDS_MAX = 0.7
REST_SECONDS = 0.5
PEER = """
import asyncio, aiohttp.web, aiosqlite, anyio, msgspec, structlog, re
print(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def peer() -> tuple[float, float]:
    """Return seconds and MB of an interpreter that imports the libraries and ends."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PEER], capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, int(done.stdout) * 1024 / 1e6


def fill(daemon: Served) -> None:
    """Bring the log to 100k events, as a client would."""
    connection = Connection(daemon.socket)
    for number in range(10):
        connection.call("POST", "/v1/sessions", {"session": f"s{number}"})
    body = [{"kind": "message", "payload": {"content": "x" * 200}} for _ in range(PER_REQUEST)]
    for number in range(EVENTS // PER_REQUEST):
        connection.call("POST", f"/v1/sessions/s{number % 10}/actions", body)
    connection.close()


def starts(daemon: Served) -> tuple[float, float]:
    """Stop and start the daemon five times; return median seconds to ready and largest memory at rest, in MB."""
    seconds: list[float] = []
    sizes: list[float] = []
    for _ in range(STARTS):
        daemon.stop()
        daemon.start()
        seconds.append(daemon.ready_seconds)
        time.sleep(REST_SECONDS)
        sizes.append(memory(daemon.pid, "VmRSS"))
    return statistics.median(seconds), max(sizes)


def measure() -> list[Figure]:
    """Measure an empty log, then one of 100k events."""
    figures: list[Figure] = []
    peers = [peer() for _ in range(STARTS)]
    figures.append(Figure("peer: libraries alone, start to end", statistics.median(p[0] for p in peers), "s"))
    figures.append(Figure("peer: libraries alone, memory", statistics.median(p[1] for p in peers), "MB"))
    with served() as daemon:
        for name in ("empty log", f"{EVENTS // 1000}k events"):
            if name != "empty log":
                fill(daemon)
            ready, size = starts(daemon)
            figures.append(Figure(f"exec to ready, {name}, median of {STARTS}", ready, "s", READY_SECONDS_MAX))
            figures.append(Figure(f"memory at rest, {name}", size, "MB", MEMORY_MAX))
    return figures


if __name__ == "__main__":
    sys.exit(0 if report("idle: a daemon that has nothing to do", measure()) else 1)
