"""Import of 100,000 events of OpenHands V0, durably; the peer is a reader that only makes objects of the same files.

python -m benchmarks.imports
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.figure import Figure, report

__all__ = ["measure", "write_conversation"]

EVENTS: Final = 100_000
PAGE: Final = 25
TEXT: Final = 200
"""Bytes of command and of output."""
SHARE_MIN: Final = 0.4
OWN_STORE_EVENTS_A_SECOND: Final = 47_500
"""At which OpenHands' own store (0.62.0) reads them from its pages, on the machine of docs/benchmarks.md."""
MEMORY_GROWTH_MB_MAX: Final = 48.0


def event(number: int) -> dict[str, Any]:
    """Return one event as OpenHands 0.62.0 stores it: a command, or what it printed."""
    seconds, micros = divmod(number * 1000, 1_000_000)
    time_text = f"2025-11-11T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"
    command = f"echo {number // 2:06} ".ljust(TEXT, "x")
    if number % 2 == 0:
        return {
            "id": number,
            "timestamp": time_text,
            "source": "agent",
            "message": f"Running command: {command}",
            "action": "run",
            "args": {
                "command": command,
                "is_input": False,
                "thought": "",
                "blocking": False,
                "is_static": False,
                "cwd": None,
                "hidden": False,
                "confirmation_state": "confirmed",
                "security_risk": -1,
            },
        }
    metadata = {
        "exit_code": 0,
        "pid": -1,
        "username": "root",
        "hostname": "sandbox",
        "working_dir": "/workspace",
        "py_interpreter_path": None,
        "prefix": "",
        "suffix": "\n[The command completed with exit code 0.]",
    }
    return {
        "id": number,
        "timestamp": time_text,
        "source": "agent",
        "message": f"Command `{command}` executed with exit code 0.",
        "cause": number - 1,
        "observation": "run",
        "content": f"{number // 2:06} ".ljust(TEXT, "y"),
        "extras": {"command": command, "metadata": metadata, "hidden": False},
        "success": True,
    }


def write_conversation(folder: Path, events: int, *, files: bool, pages: bool) -> None:
    """Write a conversation as OpenHands does: one file an event, and pages of 25."""
    (folder / "events").mkdir(parents=True)
    if pages:
        (folder / "event_cache").mkdir()
    page: list[dict[str, Any]] = []
    for number in range(events):
        made = event(number)
        if files:
            (folder / "events" / f"{number}.json").write_text(json.dumps(made))
        page.append(made)
        if len(page) == PAGE:
            if pages:
                name = f"{number + 1 - PAGE}-{number + 1}.json"
                (folder / "event_cache" / name).write_text(json.dumps(page))
            page = []


class Seen:
    """An event as an object: what a reader makes at the very least."""

    __slots__ = ("args", "cause", "content", "extras", "id", "kind", "message", "source", "timestamp")

    def __init__(self, found: dict[str, Any]) -> None:
        self.id = found["id"]
        self.timestamp = found["timestamp"]
        self.source = found["source"]
        self.cause = found.get("cause")
        self.kind = found.get("action") or found["observation"]
        self.args = found.get("args")
        self.extras = found.get("extras")
        self.content = found.get("content")
        self.message = found.get("message")


def read_pages(folder: Path, events: int) -> Iterator[Seen]:
    """Yield every event by way of its page, as a search over the store does."""
    for start in range(0, events, PAGE):
        with (folder / "event_cache" / f"{start}-{start + PAGE}.json").open() as stream:
            yield from map(Seen, json.load(stream))


def read_files(folder: Path, events: int) -> Iterator[Seen]:
    """Yield every event by way of its own file."""
    for number in range(events):
        with (folder / "events" / f"{number}.json").open() as stream:
            yield Seen(json.load(stream))


def rate_of(read: Callable[[Path, int], Iterator[Seen]], folder: Path) -> float:
    """Return events a second, the best of two."""
    best = 0.0
    for _ in range(2):
        begin = time.perf_counter()
        assert sum(1 for _ in read(folder, EVENTS)) == EVENTS
        best = max(best, EVENTS / (time.perf_counter() - begin))
    return best


def run_import(folder: Path, data: Path) -> tuple[float, float, float]:
    """Import with the command line; return seconds, seconds of processors, and the peak of its memory in MB."""
    arguments = [
        sys.executable,
        "-m",
        "chronicled.cli",
        "migrate",
        "import",
        str(folder),
        "--data",
        str(data),
        "--json",
    ]
    begin = time.perf_counter()
    nothing = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=nothing)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"the import of {folder} failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def run_killed(folder: Path, data: Path, whole: Path, seconds: float) -> tuple[int, float]:
    """Import with a kill -9 in between and again until it ends; return where it was killed, and seconds of the rest.

    The log is then the same as that of an import that nothing interrupted, event by event.
    """
    arguments = [sys.executable, "-m", "chronicled.cli", "migrate", "import", str(folder), "--data", str(data)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    if process.wait() != -signal.SIGKILL:
        raise RuntimeError("the import was over before it could be killed")
    killed_at = rows(data)[0]
    rest, _, _ = run_import(folder, data)
    if rows(data) != rows(whole):
        raise RuntimeError("an import that was killed and run again is not the same")
    return killed_at, rest


def rows(data: Path) -> tuple[int, str]:
    """Return how many events there are, and a digest of position, id, cause, kind and payload of each."""
    sql = "SELECT position, id, cause, kind, payload FROM event JOIN label ON label = number ORDER BY position"
    count, digest = 0, hashlib.sha256()
    if (data / "log.sqlite").exists():
        with closing(sqlite3.connect(f"file:{data / 'log.sqlite'}?mode=ro", uri=True)) as connection:
            for row in connection.execute(sql):
                count += 1
                digest.update(repr(row).encode())
    return count, digest.hexdigest()


def measure() -> list[Figure]:
    """Return the figures."""
    figures: list[Figure] = []
    parent = Path(tempfile.mkdtemp(prefix="chronicled-imports-"))
    try:
        small = parent / "small"
        write_conversation(small, 1000, files=True, pages=True)
        _, _, memory = run_import(small, parent / "log-small")
        for name, files, pages in (("files", True, False), ("pages", False, True), ("files and pages", True, True)):
            folder = parent / name.replace(" ", "-")
            write_conversation(folder, EVENTS, files=files, pages=pages)
            peer = rate_of(read_pages if pages else read_files, folder)
            # What was written to be imported shall not be charged with the import's own syncs.
            os.sync()
            seconds, work, peak = run_import(folder, parent / f"log-{folder.name}")
            rate = EVENTS / seconds
            figures += [
                Figure(f"{name}: json.load and objects", peer, "/s"),
                Figure(f"{name}: imported", rate, "/s", None, f"{rate / peer:.2f} of it"),
                Figure(
                    f"{name}: OpenHands' own reading over ours",
                    OWN_STORE_EVENTS_A_SECOND / rate,
                    "",
                    1 / SHARE_MIN,
                    f"{rate / OWN_STORE_EVENTS_A_SECOND:.2f} of its speed",
                ),
                Figure(f"{name}: processor time a record", work / EVENTS * 1e6, "us"),
                Figure(f"{name}: memory above 1,000 events", peak - memory, "MB", MEMORY_GROWTH_MB_MAX),
            ]
            if not files:
                killed_at, rest = run_killed(folder, parent / "log-killed", parent / f"log-{folder.name}", seconds / 2)
                figures.append(Figure(f"{name}: killed, then gone on to the end", rest, "s", None, f"at {killed_at:,}"))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(parent)
    return figures


if __name__ == "__main__":
    sys.exit(0 if report(f"Import of {EVENTS:,} events of OpenHands V0", measure()) else 1)
