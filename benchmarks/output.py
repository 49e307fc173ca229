"""A command that prints 100 MB: all of it kept, neither daemon nor action server growing with it, the loop free.

The peer is the same `cat` into a file and one SHA-256 over it: what has to be done with the bytes at the least.

python -m benchmarks.output
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.figure import Figure, quantile, report
from benchmarks.plain_http import Connection
from benchmarks.serving import memory, served

__all__ = ["measure"]

MEGABYTES = 100
GROWTH_MAX = 64.0
LAG_SECONDS_MAX = 0.05
PROBE_SECONDS = 0.004
CHUNK = 1 << 20
MILLISECONDS_A_MEGABYTE_MAX = {0: 40.0, 20: 100.0}
"""25 MB/s without secrets, 10 MB/s with twenty."""


class Probe(threading.Thread):
    """Round trips to `/livez` for as long as the load lasts: each one waits for the daemon's loop."""

    def __init__(self, socket: str) -> None:
        super().__init__()
        self._socket = socket
        self._ending = threading.Event()
        self.taken: list[float] = []

    def run(self) -> None:
        """Probe until `end`."""
        connection = Connection(self._socket)
        while not self._ending.wait(PROBE_SECONDS):
            begin = time.perf_counter()
            connection.call("GET", "/livez")
            self.taken.append(time.perf_counter() - begin)
        connection.close()

    def end(self) -> None:
        """Stop and wait for the thread."""
        self._ending.set()
        self.join()


def lag(connection: Connection) -> dict[float, int]:
    """Return the daemon's own histogram of its loop's lag: cumulative counts by bound."""
    text = connection.call("GET", "/metrics")
    pairs = re.findall(r'loop_lag_seconds_bucket\{le="([^"]+)"\} (\d+)', text)
    return {float(bound): int(count) for bound, count in pairs}


def lag_quantile(before: dict[float, int], after: dict[float, int], share: float) -> float:
    """Return the bound below which that share of the lags between two readings lie."""
    total = after[float("inf")] - before[float("inf")]
    return min(bound for bound in after if after[bound] - before[bound] >= share * total)


def forget_peak(pid: int) -> float:
    """Reset the kernel's peak (VmHWM) of the process; return its memory now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid, "VmRSS")


def server_pid(connection: Connection, session: str) -> int:
    """Return the process id of the session's action server: the first child of the reaper that the log names."""
    events = connection.call("GET", f"/v1/sessions/{session}/events?kind=generation_started")["events"]
    reaper = int(events[-1]["payload"]["handle"]["pid"])
    children = [int(word) for word in Path(f"/proc/{reaper}/task/{reaper}/children").read_text().split()]
    return min(children, key=lambda pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]))


def peer_seconds(source: Path) -> float:
    """Time `cat` into a file and one SHA-256 over it."""
    target = source.with_suffix(".copy")
    begin = time.perf_counter()
    with target.open("wb") as stream:
        subprocess.run(["cat", str(source)], stdout=stream, check=True)
    digest = hashlib.sha256()
    with target.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    taken = time.perf_counter() - begin
    target.unlink()
    return taken


def fetch(connection: Connection, path: str) -> tuple[str, int]:
    """Read a body in pieces; return its SHA-256 and size."""
    connection.request("GET", path)
    answer = connection.getresponse()
    digest, size = hashlib.sha256(), 0
    while piece := answer.read(CHUNK):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def measure(secrets: int) -> list[Figure]:
    """Print 100 MB of random bytes through the whole path, in a session that has so many secrets."""
    with served() as daemon:
        source = daemon.directory / "bytes"
        digest = hashlib.sha256()
        with source.open("wb") as stream:
            for _ in range(MEGABYTES):
                piece = os.urandom(1_000_000)
                digest.update(piece)
                stream.write(piece)
        peer = peer_seconds(source)
        connection = Connection(daemon.socket)
        values = {f"S{number}": os.urandom(20).hex() for number in range(secrets)}
        connection.call("POST", "/v1/sessions", {"session": "output", "secrets": values})
        connection.run("output", "true")
        pids = {"daemon": daemon.pid, "action server": server_pid(connection, "output")}
        before = {name: forget_peak(pid) for name, pid in pids.items()}
        lag_before = lag(connection)
        probe = Probe(daemon.socket)
        probe.start()
        begin = time.perf_counter()
        ended = connection.run("output", f"cat {source}")
        taken = time.perf_counter() - begin
        whole = fetch(connection, f"/v1/sessions/output/actions/{ended['cause']}/output")
        probe.end()
        told = ended["payload"]
        expected = (digest.hexdigest(), MEGABYTES * 1_000_000)
        assert (told["output_digest"], told["output_bytes"]) == expected, told
        assert whole == expected, whole
        growth = {name: memory(pid, "VmHWM") - before[name] for name, pid in pids.items()}
        lag_p99 = lag_quantile(lag_before, lag(connection), 0.99)
        connection.close()
    return [
        Figure("peer: cat into a file, then SHA-256", MEGABYTES / peer, "MB/s"),
        Figure(
            "printed, redacted, digested, durable",
            taken / MEGABYTES * 1e3,
            "ms/MB",
            MILLISECONDS_A_MEGABYTE_MAX[secrets],
            f"{MEGABYTES / taken:.0f} MB/s, {peer / taken:.2f} of the peer",
        ),
        *(Figure(f"peak memory growth, {name}", size, "MB", GROWTH_MAX) for name, size in growth.items()),
        Figure("loop lag p99, by /livez from outside", quantile(probe.taken, 0.99) * 1e3, "ms", LAG_SECONDS_MAX * 1e3),
        Figure(
            "loop lag worst, by /livez from outside", max(probe.taken) * 1e3, "ms", note=f"{len(probe.taken)} probes"
        ),
        Figure("loop lag p99, the daemon's own metric", lag_p99 * 1e3, "ms", LAG_SECONDS_MAX * 1e3, "bucket's bound"),
    ]


if __name__ == "__main__":
    met = [
        report(f"output: a command that prints {MEGABYTES} MB, {count} secrets", measure(count))
        for count in MILLISECONDS_A_MEGABYTE_MAX
    ]
    sys.exit(0 if all(met) else 1)
