"""Tells whether a terminal's foreground waits for the keyboard, from what its processes are blocked in.

A process waits if a thread of it is blocked reading the terminal, or polling it: alone, or beside other sources once a
program has taken the terminal out of line mode (an editor, a pager) or none of the others can come from outside the
process (timers, signals, pipes to itself). Run by the lane reaper: it is an ancestor of what it looks at, which is what
the kernel (Yama) asks for. Standard library only.
"""

from __future__ import annotations

import os
import stat
import struct

from chronicled.runtimes.action_server import process_tree

__all__ = ["BUSY", "HIDDEN", "IDLE", "WAITS", "look"]

WAITS, BUSY, HIDDEN, IDLE = b"waits", b"busy", b"hidden", b"idle"
"""It waits for input; it does not; it sleeps, and the kernel does not say in what (gVisor, or a set-uid program); it is
the shell itself, which waits for its next command."""
PROCESSES_MAX = 256
THREADS_MAX = 64
_SELECT_MAX = 1024
_POLL_MAX = 256

# read, readv; poll, ppoll; select, pselect6; epoll_wait, epoll_pwait, epoll_pwait2
_CALLS: dict[str, tuple[set[int], set[int], set[int], set[int]]] = {
    "x86_64": ({0, 19}, {7, 271}, {23, 270}, {232, 281, 441}),
    "aarch64": ({63, 65}, {73}, {72}, {22, 441}),
}
_READ, _POLL, _SELECT, _EPOLL = _CALLS.get(os.uname().machine, (set[int](), set[int](), set[int](), set[int]()))
_TTY_ANY = os.makedev(5, 0)
_INTERNAL = ("anon_inode:", "/dev/null")


def look(root: int, group: int, device: int, control: int, *, raw: bool) -> bytes:
    """Return the verdict on a foreground process group below the process `root`.

    Args:
        root: Pid of the ancestor.
        group: The foreground process group; 0 where that is not known (gVisor tells it to nobody outside the session):
            then all of them are looked at.
        device: Device number of the terminal.
        control: Inode of the pipe from which the lane's shell has its commands; 0 where there is none.
        raw: Whether the terminal is out of line mode.
    """
    verdict = BUSY
    for pid in _members(root, group):
        found = _look_at(pid, device, control if pid == group else 0, raw=raw)
        if found in (WAITS, IDLE):
            return found
        if found is HIDDEN:
            verdict = HIDDEN
    return verdict


def _members(root: int, group: int) -> list[int]:
    found: list[int] = []
    seen = 0
    level = [root]
    children = process_tree.relations()
    while level and seen < PROCESSES_MAX:
        following: list[int] = []
        for parent in level:
            for pid in children(parent):
                seen += 1
                if seen > PROCESSES_MAX:
                    return found
                following.append(pid)
                if group in (0, _group(pid)):
                    found.append(pid)
        level = following
    return found


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def _look_at(pid: int, device: int, control: int, *, raw: bool) -> bytes:
    try:
        threads = os.listdir(f"/proc/{pid}/task")[:THREADS_MAX]
    except OSError:
        return BUSY
    hidden = False
    for thread in threads:
        call = _call(f"/proc/{pid}/task/{thread}/syscall")
        if call is None:
            hidden = True
        elif call and _waits(pid, call, device, raw=raw):
            return WAITS
        elif call and control and call[0] in _READ and _is_pipe(pid, call[1], control):
            return IDLE
    return HIDDEN if hidden and _sleeps(pid) and _has_terminal(pid, device) else BUSY


def _call(path: str) -> list[int] | None:
    """Return number and arguments of the system call that a thread is blocked in; [] for none, None where hidden."""
    try:
        with open(path, "rb", buffering=0) as file:
            words = file.read(256).split()
    except (FileNotFoundError, ProcessLookupError):
        # Gone, or a kernel without this file; the first thread of a living process is always there.
        return [] if not os.path.exists(os.path.dirname(path)) else None
    except OSError:
        return None
    try:
        return [int(word, 0) for word in words[:7]]
    except ValueError:
        # `running`
        return []


def _waits(pid: int, call: list[int], device: int, *, raw: bool) -> bool:
    number, *arguments = call
    if number in _READ:
        return _is_terminal(pid, arguments[0], device)
    if number in _EPOLL:
        watched = _epoll_watches(pid, arguments[0])
    elif number in _POLL and arguments:
        watched = _poll_watches(pid, arguments[0], min(arguments[1], _POLL_MAX))
    elif number in _SELECT and arguments:
        watched = _select_watches(pid, min(arguments[0], _SELECT_MAX), arguments[1])
    else:
        return False
    others = [descriptor for descriptor in watched if not _is_terminal(pid, descriptor, device)]
    if len(others) == len(watched):
        return False
    return raw or all(_is_internal(pid, descriptor) for descriptor in others)


def _is_terminal(pid: int, descriptor: int, device: int) -> bool:
    try:
        found = os.stat(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return False
    if not stat.S_ISCHR(found.st_mode):
        return False
    # A member of the terminal's foreground group has no other terminal behind /dev/tty.
    return found.st_rdev in (device, _TTY_ANY)


def _is_pipe(pid: int, descriptor: int, inode: int) -> bool:
    try:
        found = os.stat(f"/proc/{pid}/fd/{descriptor}")
    except OSError:
        return False
    return stat.S_ISFIFO(found.st_mode) and found.st_ino == inode


def _is_internal(pid: int, descriptor: int) -> bool:
    try:
        target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        if target.startswith(_INTERNAL):
            return True
        # A pipe or a pair of sockets to itself, as event loops have it for signals. The kernel numbers a pair at once.
        folder = f"/proc/{pid}/fd"
        targets = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
    except OSError:
        return False
    if target.startswith("pipe:"):
        return targets.count(target) > 1
    if target.startswith("socket:["):
        number = int(target[len("socket:[") : -1])
        return f"socket:[{number - 1}]" in targets or f"socket:[{number + 1}]" in targets
    return False


def _epoll_watches(pid: int, descriptor: int) -> list[int]:
    watched: list[int] = []
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb", buffering=0) as file:
            for line in file.read(1 << 16).splitlines():
                words = line.split()
                # events: the first bit is EPOLLIN
                if words[:1] == [b"tfd:"] and int(words[3], 16) & 1:
                    watched.append(int(words[1]))
    except (OSError, ValueError, IndexError):
        return []
    return watched


def _poll_watches(pid: int, address: int, count: int) -> list[int]:
    data = _memory(pid, address, count * 8)
    # events: the first bit is POLLIN
    return [number for number, events, _ in struct.iter_unpack("ihh", data[: len(data) // 8 * 8]) if events & 1]


def _select_watches(pid: int, count: int, address: int) -> list[int]:
    if address == 0:
        return []
    bits = int.from_bytes(_memory(pid, address, (count + 7) // 8), "little")
    return [number for number in range(count) if bits >> number & 1]


def _memory(pid: int, address: int, size: int) -> bytes:
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, address)
    except (OSError, OverflowError):
        return b""


def _sleeps(pid: int) -> bool:
    known = process_tree.identify(pid)
    return known is not None and known[2] == b"S"


def _has_terminal(pid: int, device: int) -> bool:
    """Whether its standard input may be the terminal."""
    try:
        return os.stat(f"/proc/{pid}/fd/0").st_rdev in (device, _TTY_ANY)
    except PermissionError:
        return True
    except OSError:
        return False
