"""Finding and ending processes by their place in the process tree. Standard library only, no event loop.

A process is (pid, start time): a pid alone can mean somebody else a moment later. The kernel lets no process leave the
tree of a subreaper, so what is found here is everything, however it was detached (double fork, setsid, nohup).

Where the kernel has no subreapers (gVisor), what loses its parent goes to the sandbox's first process. Whose it was is
then told from its session, if its shell's lane is known by that; if not, it counts as everybody's.
"""

from __future__ import annotations

import errno
import os
import signal
import time

__all__ = ["Process", "children", "descendants", "end", "identify", "look_for_orphans", "send"]

Process = tuple[int, int]
"""Pid and start time in clock ticks since boot."""

_DEAD_STATES = b"ZXx"
_PAUSE_SECONDS = 0.002
_FIRST = 1
_PARENT, _SESSION, _START = 1, 3, 19
"""Places in /proc/PID/stat behind the name."""

_orphans_leave = False


def look_for_orphans() -> None:
    """Say that orphans leave the tree here; holds for this process and for what it forks from now on."""
    global _orphans_leave
    _orphans_leave = True


def identify(pid: int) -> tuple[Process, int, bytes] | None:
    """Return a process with its parent's pid and its state letter, or None when there is no such process."""
    fields = _status(pid)
    return None if fields is None else ((pid, int(fields[_START])), int(fields[_PARENT]), fields[0])


def _status(pid: int) -> list[bytes] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The command name stands in parentheses and may hold anything, also parentheses.
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return None
    return fields if len(fields) > _START else None


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, dead and not yet collected ones included."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                parts: list[bytes] = []
                while part := file.read(65536):
                    parts.append(part)
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}/stat") and not _lists_children():
                return [other for other, parent in _parents().items() if parent == pid]
            continue
        except OSError:
            continue
        found.extend(map(int, b"".join(parts).split()))
    return found


def _lists_children() -> bool:
    return os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


def _parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (found := identify(int(name))) is not None:
            parents[found[0][0]] = found[1]
    return parents


def _orphans(root: int) -> list[int]:
    """Return what has lost its parent and may descend from `root`, where no subreaper has kept it there."""
    own = _command_line(os.getpid())
    found: list[int] = []
    for name in os.listdir("/proc"):
        fields = _status(int(name)) if name.isdigit() else None
        if fields is None or int(fields[_PARENT]) != _FIRST:
            continue
        # Reaper, server and lane reapers are forks of one process, with one command line.
        if _command_line(int(name)) == own:
            continue
        leader = _status(int(fields[_SESSION]))
        parent = int(leader[_PARENT]) if leader is not None else root
        # The leader of its session is the shell of another lane.
        if parent not in (root, _FIRST) and _command_line(parent) == own:
            continue
        found.append(int(name))
    return found


def _command_line(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            return file.read(4096)
    except OSError:
        return b""


def descendants(root: int, spared: frozenset[Process] = frozenset(), passed: int = 0) -> list[Process]:
    """Return the living descendants of `root`, children first.

    Args:
        root: Pid whose descendants are wanted; it is not among them.
        spared: Processes to leave out, each with all that descends from it.
        passed: Pid of a descendant to leave out by itself alone.
    """
    found: list[Process] = []
    seen = {root}
    level = [root]
    while level:
        following: list[int] = []
        for parent in level:
            for pid in (*children(parent), *(_orphans(root) if parent == root and _orphans_leave else ())):
                if pid in seen:
                    continue
                seen.add(pid)
                if pid == passed:
                    following.append(pid)
                    continue
                known = identify(pid)
                if known is None or known[0] in spared:
                    continue
                following.append(pid)
                if known[2] not in _DEAD_STATES:
                    found.append(known[0])
        level = following
    return found


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly this process; return whether it was there to take it."""
    try:
        descriptor = os.pidfd_open(process[0])
    except OSError as error:
        return error.errno == errno.ENOSYS and _send_by_pid(process, number)
    try:
        known = identify(process[0])
        if known is None or known[0] != process:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _send_by_pid(process: Process, number: int) -> bool:
    """Do without process descriptors (gVisor): between look and signal the pid could come to mean another."""
    known = identify(process[0])
    if known is None or known[0] != process:
        return False
    try:
        os.kill(process[0], number)
    except OSError:
        return False
    return True


def end(
    root: int, seconds: float, spared: frozenset[Process] = frozenset(), passed: int = 0, *, collect: bool = False
) -> tuple[int, list[Process]]:
    """Kill the descendants of `root` until none lives; return how many were killed, and who is left after `seconds`.

    They are stopped first, all of them, and only then killed: what is stopped cannot fork, nor start a child again that
    it sees die. `passed` is stopped while this lasts and goes on afterwards: a shell that watched would take its
    stopped child for a suspended one and run the next command. With `collect` the caller is `root` itself, and the
    kernel's word that no child is left ends the loop.
    """
    deadline = time.monotonic() + seconds
    held = identify(passed) if passed else None
    if held is not None:
        send(held[0], signal.SIGSTOP)
    try:
        return _end(root, deadline, spared, passed, collect=collect)
    finally:
        if held is not None:
            send(held[0], signal.SIGCONT)


def _end(
    root: int, deadline: float, spared: frozenset[Process], passed: int, *, collect: bool
) -> tuple[int, list[Process]]:
    killed: set[Process] = set()
    clean_scans = 0
    while True:
        stopped: set[Process] = set()
        while new := [process for process in descendants(root, spared, passed) if process not in stopped]:
            for process in new:
                send(process, signal.SIGSTOP)
                stopped.add(process)
            if time.monotonic() > deadline:
                break
        for process in stopped:
            if send(process, signal.SIGKILL):
                killed.add(process)
        if collect and _collected() and not (_orphans_leave and descendants(root, spared, passed)):
            return len(killed), []
        # One scan can miss a process that forks and exits faster than it is followed; two in a row do not.
        clean_scans = 0 if stopped else clean_scans + 1
        if clean_scans >= 2 and not collect:
            return len(killed), []
        if time.monotonic() > deadline:
            return len(killed), descendants(root, spared, passed)
        time.sleep(_PAUSE_SECONDS)


def _collected() -> bool:
    """Collect the dead; return whether no child is left at all."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False
