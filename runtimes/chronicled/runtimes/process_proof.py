"""Proof of life and death for the process runtime. Everything here blocks for moments: call it in a thread.

Two things are looked at. The lock file of a sandbox is held by its reaper, its server and its lane reapers, and none of
these exits by itself before what is below it is dead. Should several of them have been killed together, their orphans
are still found by the generation's id in their environment.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator

from chronicled.runtimes.action_server import process_tree
from chronicled.runtimes.action_server.process_tree import Process

__all__ = [
    "boot_id", "find_reapers", "is_alive", "is_locked", "kill_marked", "last_words", "open_lock",
]  # fmt: skip

GENERATION_VARIABLE = "CHRONICLED_GENERATION"
ASKED_MAX = 4
ASK_AGAIN_SECONDS = 0.001
_LOCK_NAME = "alive.lock"
_BOOTSTRAP_NAME = b"bootstrap.py"


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def is_alive(process: Process) -> bool:
    """Return whether exactly this process runs (a zombie does not)."""
    known = process_tree.identify(process[0])
    return known is not None and known[0] == process and known[2] not in b"ZXx"


def open_lock(folder: str) -> int:
    """Open the sandbox's lock file."""
    return os.open(os.path.join(folder, _LOCK_NAME), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def is_locked(folder: str) -> bool:
    """Return whether a reaper or the server of the sandbox lives."""
    try:
        descriptor = open_lock(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        for _ in range(ASKED_MAX):
            if _locks(descriptor):
                return False
            # Who asks at the same moment holds it too, but not again and again.
            time.sleep(ASK_AGAIN_SECONDS)
        return True
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def last_words(folder: str) -> tuple[str, int]:
    """Return why the reaper ended its generation, and how many processes it killed; `killed` where it could not say."""
    try:
        descriptor = open_lock(folder)
    except OSError:
        return "killed", 0
    try:
        words = os.pread(descriptor, 256, 0).decode(errors="replace").split()
    finally:
        os.close(descriptor)
    if len(words) != 2 or not words[1].isdigit():
        return "killed", 0
    return words[0], int(words[1])


def find_reapers(sandbox: str) -> list[tuple[Process, str]]:
    """Return the outermost of the sandbox's processes with their generation, as their command lines say.

    That is its reaper, or what the reaper has left behind: its server and lane reapers have the same command line.
    """
    found: dict[int, tuple[Process, str]] = {}
    parents: dict[int, int] = {}
    for process in _processes():
        words = _read(process, "cmdline").split(b"\0")
        if len(words) >= 6 and os.path.basename(words[-4]) == _BOOTSTRAP_NAME and words[-3] == os.fsencode(sandbox):
            known = process_tree.identify(process[0])
            found[process[0]] = process, os.fsdecode(words[-2])
            parents[process[0]] = known[1] if known is not None else 0
    # Not by their numbers, which begin anew from time to time: the youngest may have the lowest.
    return [each for pid, each in found.items() if parents[pid] not in found]


def kill_marked(generation: str) -> int:
    """Kill what carries the generation's id in its environment; return how many lived."""
    mark = f"{GENERATION_VARIABLE}={generation}".encode()
    killed = 0
    for process in _processes():
        if mark in _read(process, "environ").split(b"\0") and process_tree.send(process, signal.SIGKILL):
            killed += 1
    return killed


def _processes() -> Iterator[Process]:
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != own:
            known = process_tree.identify(int(name))
            if known is not None and known[2] not in b"ZXx":
                yield known[0]


def _read(process: Process, name: str) -> bytes:
    try:
        with open(f"/proc/{process[0]}/{name}", "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""
