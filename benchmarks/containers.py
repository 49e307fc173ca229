"""Containers: how fast one comes, answers and prints, beside the engine's own way to do the same, in one run.

Peers, by the engine's command line and API: `docker create` and `start` of the same image and nothing else (the floor
under a new sandbox), and `docker exec` of the same command. The image is one of the tests' (`make engine`).

python -m benchmarks.containers [IMAGE]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figure import Figure, quantile, report
from benchmarks.latency import commit_seconds, latencies
from benchmarks.output import Probe, fetch, forget_peak
from benchmarks.plain_http import Connection
from benchmarks.serving import Served, memory, served

__all__ = ["measure"]

IMAGE = "chronicled-test/debian:1"
STARTS = 9
START_RATIO_MAX = 1.5
WARM_SECONDS_MAX = 0.020
COUNT = 300
ROUNDS = 3
OURS_SECONDS_MAX = 0.0015
MEGABYTES = 100
GROWTH_MAX = 64.0
LAG_SECONDS_MAX = 0.05
PSS_MAX = 25.0
PLAIN_RATE_MIN = 25.0
SECRET_RATE_MIN = 10.0
SECRETS = 20
CROWD = 50
SETTINGS = f'[runtime]\nwarm = [{{runtime = "docker", image = "{IMAGE}", count = 2}}]\n'


def docker(*words: str) -> str:
    """Run the engine's command line; return what it prints."""
    done = subprocess.run(["docker", *words], check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.strip()


@contextlib.contextmanager
def bare_container(image: str) -> Generator[tuple[str, float]]:
    """Create and start a container that only sleeps; give its id and how long that took; remove it afterwards."""
    carried = ("-v", f"{carrier()}:/.chronicled:ro")
    begin = time.perf_counter()
    name = docker("create", "--network", "none", "--init", *carried, image, "/.chronicled/bin/busybox", "sleep", "600")
    docker("start", name)
    try:
        yield name, time.perf_counter() - begin
    finally:
        docker("rm", "-f", name)


def carrier() -> str:
    """Return the path of the carrier, which the daemon has made by now."""
    from chronicled.runtimes.carrier import ensure_carrier

    with contextlib.suppress(KeyError):
        return os.environ["CHRONICLED_BENCH_CARRIER"]
    path = ensure_carrier(Path.home() / ".cache" / "chronicled" / "bench", "amd64").path
    os.environ["CHRONICLED_BENCH_CARRIER"] = str(path)
    return str(path)


def first_answer(connection: Connection, name: str, image: str, **more: object) -> float:
    """Return the seconds from asking for a session to the end of its first action."""
    begin = time.perf_counter()
    connection.call("POST", "/v1/sessions", {"session": name, "runtime": "docker", "image": image, **more})
    ended = connection.run(name, "echo hi")
    taken = time.perf_counter() - begin
    assert ended["payload"]["output"] == "hi\n", ended
    return taken


def starts(connection: Connection, image: str) -> list[Figure]:
    """Compare a new sandbox with a bare container, in turns."""
    ours: list[float] = []
    floor: list[float] = []
    first_answer(connection, "first", image, sandbox={"cpus": 1.0})
    for number in range(STARTS):
        with bare_container(image) as (_, taken):
            floor.append(taken)
        name = f"start-{number}"
        # Something that the pool has not: a sandbox of its own.
        ours.append(first_answer(connection, name, image, sandbox={"cpus": 1.0}))
        connection.call("DELETE", f"/v1/sessions/{name}")
    bare, whole = statistics.median(floor), statistics.median(ours)
    return [
        Figure("floor: docker create + start", bare * 1e3, "ms"),
        Figure("session created to first action ended", whole * 1e3, "ms", START_RATIO_MAX * bare * 1e3),
    ]


def warm(connection: Connection, image: str) -> list[Figure]:
    """Take sandboxes from the pool, one when it is full again."""
    taken: list[float] = []
    for number in range(STARTS):
        time.sleep(1.5)  # the pool fills up again
        name = f"warm-{number}"
        taken.append(first_answer(connection, name, image))
        (started,) = connection.call("GET", f"/v1/sessions/{name}/events?kind=generation_started")["events"]
        assert started["payload"]["warm"], started
        connection.call("DELETE", f"/v1/sessions/{name}")
    return [
        Figure("from the warm pool, first action ended", statistics.median(taken) * 1e3, "ms", WARM_SECONDS_MAX * 1e3)
    ]


def answers(connection: Connection, daemon: Served, image: str) -> list[Figure]:
    """Compare `run true` in a ready container with `docker exec true`."""
    latencies(connection, "first", 50)
    rounds: list[float] = []
    commits: list[float] = []
    for _ in range(ROUNDS):
        commits.append(commit_seconds(daemon.directory))
        rounds.append(quantile(latencies(connection, "first", COUNT), 0.5))
    execs: list[float] = []
    with bare_container(image) as (name, _):
        for _ in range(20):
            begin = time.perf_counter()
            docker("exec", name, "/.chronicled/bin/busybox", "true")
            execs.append(time.perf_counter() - begin)
    limit = 2 * min(commits) + OURS_SECONDS_MAX
    return [
        Figure("peer: docker exec true, p50", quantile(execs, 0.5) * 1e3, "ms"),
        Figure("run true in a ready container, p50", min(rounds) * 1e3, "ms", limit * 1e3),
    ]


def server_pids(container: str) -> list[int]:
    """Return the host's pids of the action server in a container: reaper, server, lane reapers, in this order."""
    top = docker("top", container, "-eo", "pid,ppid,args").splitlines()[1:]
    rows = [row.split(None, 2) for row in top]
    python = {int(pid): int(parent) for pid, parent, words in rows if words.startswith("/.chronicled/bin/python3")}
    reaper = next(pid for pid, parent in python.items() if parent not in python)
    return [reaper, *sorted(pid for pid, parent in python.items() if parent == reaper)]


def container_of(connection: Connection, session: str) -> str:
    """Return the id of the session's container, as its log has it."""
    events = connection.call("GET", f"/v1/sessions/{session}/events?kind=generation_started")["events"]
    return str(events[-1]["payload"]["handle"]["container"])


def pss(pid: int) -> float:
    """Return the proportional memory of a process in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def printed(connection: Connection, daemon: Served, session: str, label: str, rate_min: float) -> list[Figure]:
    """Print 100 MB through the whole path; compare with `docker exec cat` of the same file in the same container."""
    container = container_of(connection, session)
    command = f"head -c {MEGABYTES}000000 /dev/urandom > bytes; sha256sum bytes"
    digest = connection.run(session, command)["payload"]["output"].split()[0]
    begin = time.perf_counter()
    copied = subprocess.run(
        ["docker", "exec", container, "cat", "/workspace/bytes"], check=True, stdout=subprocess.PIPE
    )
    peer = time.perf_counter() - begin
    assert hashlib.sha256(copied.stdout).hexdigest() == digest
    pids = {"daemon": daemon.pid, "action server": server_pids(container)[1]}
    before = {name: forget_peak(pid) for name, pid in pids.items()}
    probe = Probe(daemon.socket)
    probe.start()
    begin = time.perf_counter()
    ended = connection.run(session, "cat bytes")
    taken = time.perf_counter() - begin
    whole = fetch(connection, f"/v1/sessions/{session}/actions/{ended['cause']}/output")
    probe.end()
    assert ended["payload"]["output_digest"] == digest, ended["payload"]
    assert whole == (digest, MEGABYTES * 1_000_000), whole
    growth = {name: memory(pid, "VmHWM") - before[name] for name, pid in pids.items()}
    (event,) = connection.call("GET", f"/v1/sessions/{session}/events?after={ended['position'] - 1}&limit=1")["events"]
    row = len(json.dumps(event))
    assert row < 1 << 16
    rate = MEGABYTES / taken
    return [
        Figure(f"peer: docker exec cat, {label}", MEGABYTES / peer, "MB/s"),
        # As time, since a target is a largest value.
        Figure(
            f"100 MB printed, {label}", taken, "s", MEGABYTES / rate_min, f"{rate:.0f} MB/s, {peer / taken:.2f} of it"
        ),
        *(Figure(f"peak growth, {name}, {label}", size, "MB", GROWTH_MAX) for name, size in growth.items()),
        Figure(f"loop lag p99 meanwhile, {label}", quantile(probe.taken, 0.99) * 1e3, "ms", LAG_SECONDS_MAX * 1e3),
    ]


def crowd(daemon: Served, image: str) -> list[Figure]:
    """Ask for 50 sandboxes at once; none may fail."""

    def one(number: int) -> str:
        connection = Connection(daemon.socket)
        try:
            name = f"crowd-{number}"
            connection.call("POST", "/v1/sessions", {"session": name, "runtime": "docker", "image": image})
            outcome = connection.run(name, "echo hi")["payload"]["outcome"]
            connection.call("DELETE", f"/v1/sessions/{name}")
            return str(outcome)
        finally:
            connection.close()

    begin = time.perf_counter()
    with ThreadPoolExecutor(CROWD) as pool:
        outcomes = list(pool.map(one, range(CROWD)))
    taken = time.perf_counter() - begin
    failed = sum(outcome != "ok" for outcome in outcomes)
    return [
        Figure(f"{CROWD} sandboxes asked at once, failed", failed, "", 0.0),
        Figure(f"{CROWD} sandboxes asked at once, all answered", taken, "s"),
    ]


def measure(image: str) -> list[Figure]:
    """Measure everything with one daemon, one thing after another."""
    found: list[Figure] = []
    with served(SETTINGS) as daemon:
        connection = Connection(daemon.socket)
        found += starts(connection, image)
        found += warm(connection, image)
        found += answers(connection, daemon, image)
        pids = server_pids(container_of(connection, "first"))
        note = "reaper, server and one lane's reaper together"
        found.append(Figure("idle action server, PSS", sum(map(pss, pids)), "MB", PSS_MAX, note))
        found += printed(connection, daemon, "first", "no secrets", PLAIN_RATE_MIN)
        secrets = {f"SECRET_{number}": hashlib.sha256(str(number).encode()).hexdigest() for number in range(SECRETS)}
        body = {"session": "secrets", "runtime": "docker", "image": image, "secrets": secrets}
        connection.call("POST", "/v1/sessions", body)
        connection.run("secrets", "true")
        found += printed(connection, daemon, "secrets", f"{SECRETS} secrets", SECRET_RATE_MIN)
        found += crowd(daemon, image)
        connection.close()
    return found


if __name__ == "__main__":
    sys.exit(0 if report("containers", measure(sys.argv[1] if len(sys.argv) > 1 else IMAGE)) else 1)
