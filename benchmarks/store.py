"""The log beside its floor (`benchmarks.floor_store`), both in this run, in turns: medians and their ratio.

Bars: durable appends in process with 10 followers at 50 % or more of the bare group commit, and a 100k-event session
read through the store and decoded through the codec at 50 % or more of the bare scan.

    python -m benchmarks.store [ROUNDS]
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks import floor_store
from chronicled.events.codec import Codec, Opaque
from chronicled.events.envelope import ACTION, Draft
from chronicled.events.ids import SystemIds
from chronicled.events.registry import builtin_registry
from chronicled.events.store import Append, Filter
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.stream import LogStream
from chronicled.storage.writer import SWITCH_SECONDS

__all__ = ["append_product", "fill", "lone_product", "main", "read_product"]

FOLLOWERS: Final = 10
BAR: Final = 0.5
NOTE: Final = (
    "The same bare paths as a note of 2026-11-20 has them, same class of machine (no part of the ratios): appends "
    "84,638/s in batches of 100, 137,838/s in batches of 1000; scan and decode 196,000/s."
)
_ids = SystemIds()


def action(session: str, number: int) -> Draft:
    """Return a draft with the floor's payload."""
    body = floor_store.body(number)
    return Draft("default", session, _ids.new(), "run", 2, ACTION, body, source="client", actor="uid:1000", fresh=True)


def created(session: str) -> Append:
    """Return the request that creates a session."""
    draft = Draft(
        "default", session, _ids.new(), "session_created", 2, "lifecycle", b'{"runtime":"process"}', fresh=True
    )
    return Append((draft,), create=True)


async def follow(stream: LogStream, until: int) -> int:
    """Count every event from the start until position `until`."""
    count = 0
    async with stream.subscribe(0) as pages:
        async for page in pages:
            count += len(page.events)
            if page.next >= until:
                break
    return count


async def appends(path: Path, count: int, in_flight: int, followers: int) -> list[float]:
    """Append `count` events from `in_flight` tasks with followers; return the wall time, then each append's latency."""
    latencies: list[float] = []
    async with await SqliteStore.open(path) as store:
        stream = LogStream(store)
        for session in range(in_flight):
            await stream.append(created(f"s{session}"))
        total = store.head + count // in_flight * in_flight
        following = [asyncio.create_task(follow(stream, total)) for _ in range(followers)]
        await asyncio.sleep(0.05)

        async def client(session: int) -> None:
            for number in range(count // in_flight):
                begin = time.perf_counter()
                await stream.append(Append((action(f"s{session}", number),)))
                latencies.append(time.perf_counter() - begin)

        begin = time.perf_counter()
        await asyncio.gather(*(client(session) for session in range(in_flight)))
        counts = await asyncio.gather(*following)
        wall = time.perf_counter() - begin
        assert counts == [total] * followers, counts
        with contextlib.suppress(Exception):
            await stream.aclose()
    return [wall, *latencies]


def append_product(count: int = 40_000, in_flight: int = 256, followers: int = FOLLOWERS) -> float:
    """Return durable appends per second, each seen by all followers."""
    with tempfile.TemporaryDirectory() as directory:
        wall = asyncio.run(appends(Path(directory) / LOG_NAME, count, in_flight, followers))[0]
    return count // in_flight * in_flight / wall


def lone_product(count: int = 1_000) -> float:
    """Return the median latency in seconds of an append with no other in flight, 10 following."""
    with tempfile.TemporaryDirectory() as directory:
        return statistics.median(asyncio.run(appends(Path(directory) / LOG_NAME, count, 1, FOLLOWERS))[1:])


async def fill(path: Path, count: int) -> None:
    """Write a session of `count` events, every second row another session's."""
    async with await SqliteStore.open(path) as store:
        for session in ("other", "wanted"):
            await store.append(created(session))
        for start in range(0, 2 * count, 500):
            drafts = (action(("other", "wanted")[number % 2], number) for number in range(start, start + 500))
            await store.append(Append(tuple(drafts)))


async def reading(path: Path) -> float:
    """Return events per second of reading the session page by page, each payload decoded."""
    codec = Codec(builtin_registry())
    async with await SqliteStore.open(path) as store:
        where = Filter(tenant="default", session="wanted")
        cursor, decoded = 0, 0
        begin = time.perf_counter()
        while True:
            page = await store.read(cursor, 1000, where)
            payloads = [codec.decode(event) for event in page.events]
            assert not any(type(payload) is Opaque for payload in payloads)
            decoded += len(payloads)
            cursor = page.next
            if page.at_end:
                break
        return decoded / (time.perf_counter() - begin)


def read_product(path: Path) -> float:
    """Return events per second of reading session `wanted` of a filled log."""
    return asyncio.run(reading(path))


def row(name: str, floor: list[float], product: list[float], unit: str, *, rate: bool) -> bool:
    """Print one comparison; return whether it reaches the bar (a latency has none)."""
    low, high = statistics.median(floor), statistics.median(product)
    print(f"{name:<44}{low:>12,.0f}{high:>12,.0f} {unit:<4}{high / low:>8.0%}{'' if rate else '  (of the floor)'}")
    return not rate or high / low >= BAR


def main() -> int:
    """Measure; return 1 when a bar is missed."""
    sys.setswitchinterval(SWITCH_SECONDS)  # as the daemon does; it makes the floor neither faster nor slower
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'median of ' + str(rounds):<44}{'floor':>12}{'product':>12}")
    floor: list[float] = []
    product: list[float] = []
    for _ in range(rounds):
        floor.append(floor_store.append_floor())
        product.append(append_product())
    good = row("durable appends, 256 in flight, 10 followers", floor, product, "/s", rate=True)
    floor, product = [], []
    for _ in range(rounds):
        floor.append(floor_store.lone_floor() * 1e6)
        product.append(lone_product() * 1e6)
    row("lone append, 10 followers", floor, product, "us", rate=False)
    floor, product = [], []
    with tempfile.TemporaryDirectory() as directory:
        bare, log = Path(directory) / "floor.sqlite", Path(directory) / LOG_NAME
        floor_store.fill(bare, 100_000)
        asyncio.run(fill(log, 100_000))
        for _ in range(rounds):
            floor.append(floor_store.scan_floor(bare))
            product.append(read_product(log))
    good = row("session of 100k events, read and decoded", floor, product, "/s", rate=True) and good
    print(NOTE)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
