"""A long log brought on and written anew: how long it takes, in how much memory, and what the last step is good for.

    python -m benchmarks.upgrades [EVENTS]

The log is written as the step before the newest left it. Each measured part is a process of its own, so that its peak
memory is that part's. Beside them stand a plain copy of the file and SQLite's own check of it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.figure import Figure, report
from chronicled.events.store import Append, Filter
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.census import count_kinds
from chronicled.storage.rewrite import rewrite
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker

EVENTS: Final = 1_000_000
SESSIONS: Final = 200
MEMORY_MB_MAX: Final = 100.0
PAGE_MS_MAX: Final = 10.0
RARE: Final = Filter(kinds=frozenset({"session_claimed"}))


async def fill(path: Path, events: int) -> None:
    """Write a log of actions in a former version and their ends; one in 100,000 events is a claim."""
    maker = DraftMaker()
    async with await SqliteStore.open(path) as store:
        for number in range(SESSIONS):
            await store.append(maker.create(f"s{number}"))
        while store.head < events:
            session = f"s{store.head // 150 % SESSIONS}"
            drafts = [maker.claimed(session)] if (store.head - SESSIONS) % 100_000 < 150 else []
            for number in range(75):
                action = maker.action(session, f"make -C build target-{store.head + number}")
                drafts += [action, maker.terminal(session, action.id)]
            await store.append(Append(tuple(drafts)))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE segment_label")
        connection.execute("DELETE FROM schema_step WHERE number = 2")


async def bring_on(path: Path) -> None:
    """Open the log, which takes the step, and close it."""
    await (await SqliteStore.open(path)).aclose()


async def first_page(path: Path) -> tuple[float, int, int]:
    """Return the milliseconds of the first page of rare events, and how many pages and events there are in all."""
    async with await SqliteStore.open(path) as store:
        begin = time.perf_counter()
        page = await store.read(0, 500, RARE)
        milliseconds = (time.perf_counter() - begin) * 1e3
        pages, events = 1, len(page.events)
        while not page.at_end:
            page = await store.read(page.next, 500, RARE)
            pages, events = pages + 1, events + len(page.events)
        return milliseconds, pages, events


def measured(part: str, path: Path) -> dict[str, float]:
    """Run one part in a process of its own; return what it says."""
    command = [sys.executable, "-m", "benchmarks.upgrades", part, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def run(part: str, path: Path) -> None:
    """Do one part and print its figures."""
    begin = time.perf_counter()
    extra: dict[str, float] = {}
    if part == "bring_on":
        asyncio.run(bring_on(path))
    elif part == "rewrite":
        rewrite(path.parent, path.parent.with_name("new"), vocabulary())
    elif part == "page":
        milliseconds, pages, events = asyncio.run(first_page(path))
        extra = {"milliseconds": milliseconds, "pages": pages, "events": events}
    else:
        count_kinds(path)
    print(json.dumps({"seconds": time.perf_counter() - begin, "memory": peak_memory(), **extra}))


def peak_memory() -> float:
    """Return this process's peak in MB: the kernel's figure of its own pages, and not of who started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel does not tell the peak")


def timed_copy(path: Path) -> tuple[float, float]:
    """Return the seconds of a plain copy of the file, and of SQLite's check of it."""
    begin = time.perf_counter()
    shutil.copyfile(path, path.with_name("copy"))
    copied = time.perf_counter() - begin
    with closing(sqlite3.connect(path.with_name("copy"))) as connection:
        begin = time.perf_counter()
        connection.execute("PRAGMA integrity_check").fetchall()
        checked = time.perf_counter() - begin
    path.with_name("copy").unlink()
    return copied, checked


def main() -> int:
    """Measure; return 1 when a target is missed."""
    if len(sys.argv) > 2:
        run(sys.argv[1], Path(sys.argv[2]))
        return 0
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "old" / LOG_NAME
        path.parent.mkdir()
        asyncio.run(fill(path, events))
        size = path.stat().st_size / 1e6
        copied, checked = timed_copy(path)
        up, page, counts = (measured(part, path) for part in ("bring_on", "page", "count"))
        anew = measured("rewrite", path)
    note = f"{page['events']:.0f} events in {page['pages']:.0f} page(s)"
    figures = [
        Figure("a plain copy of the file", copied, "s"),
        Figure("SQLite's check of it, once", checked, "s"),
        Figure("brought on: two checks, a copy, the step", up["seconds"], "s"),
        Figure("  peak memory", up["memory"], "MB", MEMORY_MB_MAX),
        Figure("first page of a rare kind", page["milliseconds"], "ms", PAGE_MS_MAX, note),
        Figure("all kinds counted, with the process's start", counts["seconds"] * 1e3, "ms"),
        Figure("written anew, verified and compared", anew["seconds"], "s"),
        Figure("  events a second", events / anew["seconds"], "/s"),
        Figure("  peak memory", anew["memory"], "MB", MEMORY_MB_MAX),
    ]
    return 0 if report(f"upgrades: a log of {events:,} events, {size:,.0f} MB", figures) else 1


if __name__ == "__main__":
    sys.exit(main())
