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
from collections.abc import Callable, Mapping
from functools import cache

__all__ = [
    "Process",
    "children",
    "descendants",
    "end",
    "groups_of_children",
    "identify",
    "is_stopped",
    "look_for_orphans",
    "orphans_leave",
    "relations",
    "send",
]

Process = tuple[int, int]
"""Pid and start time in clock ticks since boot."""

_DEAD_STATES = b"ZXx"
_STOPPED_STATES = b"Tt"
_HELD_STATE = b"D"
_HELD_SECONDS = 0.3
"""Whoever is blocked for so long where no signal reaches it is not waited for any longer."""
_PAUSE_SECONDS = 0.002
_LISTINGS_MAX = 50
"""So often is looked for processes that have come since the listing before."""
_FIRST = 1
_PARENT, _GROUP, _SESSION, _START = 1, 2, 3, 19
"""Places in /proc/PID/stat behind the name."""

_orphans_leave = False


def look_for_orphans() -> None:
    """Say that orphans leave the tree here; holds for this process and for what it forks from now on."""
    global _orphans_leave
    _orphans_leave = True


def orphans_leave() -> bool:
    """Return whether they do."""
    return _orphans_leave


def is_stopped(process: Process) -> bool:
    """Return whether the process is there and stopped."""
    known = identify(process[0])
    return known is not None and known[0] == process and known[2] in _STOPPED_STATES


def identify(pid: int) -> tuple[Process, int, bytes] | None:
    """Return a process with its parent's pid and its state letter, or None when there is no such process."""
    return _identity(pid, _status(pid))


def _identity(pid: int, fields: list[bytes] | None) -> tuple[Process, int, bytes] | None:
    return None if fields is None else ((pid, int(fields[_START])), int(fields[_PARENT]), fields[0])


def _status(pid: int) -> list[bytes] | None:
    # The command name stands in parentheses and may hold anything, also parentheses.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields if len(fields) > _START else None


def _read(path: str) -> bytes:
    # With three system calls, where Python's own `open` makes eight: a scan reads hundreds of such files.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, dead and not yet collected ones included."""
    return relations()(pid)


def relations() -> Callable[[int], list[int]]:
    """Return what returns the pids of a process's children: as they are then, or all as they are now.

    Where the kernel lists no children (gVisor) one look at all processes serves every question, for a look at each is
    what costs there.
    """
    if _lists_children():
        return _listed_children
    families = _by_parent(_statuses())
    return lambda pid: families.get(pid, [])


def _listed_children(pid: int) -> list[int]:
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
        except OSError:
            continue
        found.extend(map(int, b"".join(parts).split()))
    return found


@cache
def _lists_children() -> bool:
    return os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


def _statuses() -> dict[int, list[bytes]]:
    """Return the status of every process, by pid; of those too that come meanwhile, in place of one that goes."""
    found: dict[int, list[bytes]] = {}
    seen: set[str] = set()
    for _ in range(_LISTINGS_MAX):
        fresh = [name for name in os.listdir("/proc") if name.isdigit() and name not in seen]
        if not fresh:
            break
        seen.update(fresh)
        for name in fresh:
            if (fields := _status(int(name))) is not None:
                found[int(name)] = fields
    return found


def _by_parent(statuses: Mapping[int, list[bytes]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid, fields in statuses.items():
        found.setdefault(int(fields[_PARENT]), []).append(pid)
    return found


def _orphans(root: int, statuses: Mapping[int, list[bytes]]) -> list[int]:
    """Return what has lost its parent and may descend from `root`, where no subreaper has kept it there."""
    found: list[int] = []
    _forks.keep(statuses)
    for pid, fields in statuses.items():
        if int(fields[_PARENT]) != _FIRST or _forks.has(pid, fields):
            continue
        leader = statuses.get(int(fields[_SESSION]))
        parent = int(leader[_PARENT]) if leader is not None else root
        # The leader of its session is the shell of another lane.
        if parent not in (root, _FIRST) and parent in statuses and _forks.has(parent, statuses[parent]):
            continue
        found.append(pid)
    return found


def groups_of_children(pid: int) -> list[int]:
    """Return the process groups of a process's living children, the youngest child's first."""
    statuses = _statuses()
    living = [child for child in _by_parent(statuses).get(pid, []) if statuses[child][0] not in _DEAD_STATES]
    living.sort(key=lambda child: (int(statuses[child][_START]), child), reverse=True)
    return [int(statuses[child][_GROUP]) for child in living]


class _Forks:
    """Tells the reaper, the server and the lane reapers from all other processes.

    They are forks of one process and have its command line. What a process is, is judged once: one that takes on that
    command line later is not taken for them.
    """

    def __init__(self) -> None:
        self._judged: dict[Process, bool] = {}

    def keep(self, statuses: Mapping[int, list[bytes]]) -> None:
        """Forget processes that are gone."""
        self._judged = {
            process: ours
            for process, ours in self._judged.items()
            if (fields := statuses.get(process[0])) is not None and int(fields[_START]) == process[1]
        }

    def has(self, pid: int, fields: list[bytes]) -> bool:
        """Return whether a process of this status is one of them."""
        process = pid, int(fields[_START])
        ours = self._judged.get(process)
        if ours is None:
            ours = self._judged[process] = _read(f"/proc/{pid}/cmdline") == _read("/proc/self/cmdline")
        return ours


_forks = _Forks()


def _view(root: int) -> tuple[Callable[[int], list[int]], Callable[[int], tuple[Process, int, bytes] | None]]:
    """Return what tells children, and what identifies them; among those of `root` are orphans that may be its own."""
    if _lists_children():
        return _listed_children, identify
    statuses = _statuses()
    families = _by_parent(statuses)
    if _orphans_leave:
        families[root] = [*families.get(root, ()), *_orphans(root, statuses)]
    return (lambda pid: families.get(pid, [])), (lambda pid: _identity(pid, statuses.get(pid)))


def descendants(root: int, spared: frozenset[Process] = frozenset(), passed: int = 0) -> list[Process]:
    """Return the living descendants of `root`, children first.

    Args:
        root: Pid whose descendants are wanted; it is not among them.
        spared: Processes to leave out, each with all that descends from it.
        passed: Pid of a descendant to leave out by itself alone.
    """
    below, known_as = _view(root)
    found: list[Process] = []
    seen = {root}
    level = [root]
    while level:
        following: list[int] = []
        for parent in level:
            for pid in below(parent):
                if pid in seen:
                    continue
                seen.add(pid)
                if pid == passed:
                    following.append(pid)
                    continue
                known = known_as(pid)
                if known is None or known[0] in spared:
                    continue
                following.append(pid)
                if known[2] not in _DEAD_STATES:
                    found.append(known[0])
        level = following
    return found


def send(process: Process, number: int) -> bool:
    """Send a signal to exactly this process; return whether it was there to take it."""
    if not _has_descriptors():
        return _send_by_pid(process, number)
    try:
        descriptor = os.pidfd_open(process[0])
    except OSError:
        return False
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


def _kill_stopped(process: Process) -> bool:
    """Kill a process that was stopped a moment ago: so soon its pid means nobody else, even where that is not sure."""
    if _has_descriptors():
        return send(process, signal.SIGKILL)
    try:
        os.kill(process[0], signal.SIGKILL)
    except OSError:
        return False
    return True


@cache
def _has_descriptors() -> bool:
    """Return whether the kernel has descriptors of processes; gVisor has none."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def end(
    root: int, seconds: float, spared: frozenset[Process] = frozenset(), passed: int = 0, *, collect: bool = False
) -> tuple[int, list[Process]]:
    """Kill the descendants of `root` until none lives; return how many died of it, and who is left.

    Left are those that live after `seconds`, or before if the kernel holds every one of them.

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
    held_since = 0.0
    while True:
        met: set[Process] = set()
        stopped: list[Process] = []
        while new := [process for process in descendants(root, spared, passed) if process not in met]:
            met.update(new)
            stopped += [process for process in new if send(process, signal.SIGSTOP)]
            if time.monotonic() > deadline:
                break
        for process in stopped:
            if _kill_stopped(process):
                killed.add(process)
        if collect and _collected() and not (_orphans_leave and descendants(root, spared, passed)):
            return len(killed), []
        # One scan can miss a process that forks and exits faster than it is followed; two in a row do not.
        clean_scans = 0 if met else clean_scans + 1
        if clean_scans >= 2 and not collect:
            return len(killed), []
        now = time.monotonic()
        held_since = (held_since or now) if met and all(map(_is_held, met)) else 0.0
        if now > deadline or (held_since and now > held_since + _HELD_SECONDS and not collect):
            left = descendants(root, spared, passed)
            return len(killed.difference(left)), left
        time.sleep(_PAUSE_SECONDS)


def _is_held(process: Process) -> bool:
    known = identify(process[0])
    return known is not None and known[0] == process and known[2] == _HELD_STATE


def _collected() -> bool:
    """Collect the dead; return whether no child is left at all."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False
