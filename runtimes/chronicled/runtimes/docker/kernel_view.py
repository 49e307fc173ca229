"""What the kernel says of a container's first process: the truth where an engine does not tell, or in other words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

__all__ = ["CAPABILITIES", "KernelView", "is_over", "kept_in", "look", "mounted_within"]

CAPABILITIES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
"""By their numbers in the kernel: the first is bit 0."""
_SETS: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NAMESPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
_FILTERED: Final = "2"
"""Mode of a process whose system calls pass a filter."""


class KernelView(msgspec.Struct, frozen=True, kw_only=True):
    """One process as the kernel has it."""

    capabilities: tuple[str, ...]
    """All that it has or can ever get."""
    no_new_privileges: bool
    seccomp: bool
    """Its system calls are filtered."""
    own_namespaces: frozenset[str]
    """Kinds of namespaces (`pid`, `net`, ...) in which this process is not."""
    masked: frozenset[str]
    """Of the paths asked for, those that show nothing: something empty lies over them, or they are not there."""
    read_only: frozenset[str]
    """Of the paths asked for, those that nobody can write to, or that are not there."""


class _Mount(msgspec.Struct, frozen=True):
    root: str
    options: frozenset[str]
    type: str


def look(process: int, masked: Iterable[str], read_only: Iterable[str]) -> KernelView:
    """Return how a process of this machine is confined. Blocks for moments.

    Args:
        process: Its number here.
        masked: Paths in its own view that may be masked.
        read_only: Paths in its own view that may be read-only.

    Raises:
        OSError: it is gone, or not ours to see.
    """
    lines = _read(process, "status").splitlines()
    status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    bits = 0
    for name in _SETS:
        bits |= int(status[name], 16)
    mounts = _mounts(_read(process, "mountinfo"))
    return KernelView(
        capabilities=tuple(_name(number) for number in range(bits.bit_length()) if bits >> number & 1),
        no_new_privileges=status.get("NoNewPrivs") == "1",
        seccomp=status.get("Seccomp") == _FILTERED,
        own_namespaces=frozenset(kind for kind in _NAMESPACES if _namespace(process, kind) != _namespace("self", kind)),
        masked=frozenset(path for path in masked if _is(path, mounts, process, _masks)),
        read_only=frozenset(path for path in read_only if _is(path, mounts, process, _keeps)),
    )


def mounted_within(process: int, path: str) -> list[str]:
    """Return the places at or below a path at which something is mounted in a process's own view, one by one.

    Raises:
        OSError: it is gone, or not ours to see.
    """
    points = [line.split()[4] for line in _read(process, "mountinfo").splitlines()]
    return [point for point in points if point == path or point.startswith(path + "/")]


def is_over(process: int) -> bool:
    """Return whether a process of this machine has ended: nothing of its view is left to be seen."""
    try:
        return _read(process, "stat").rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


def kept_in(process: int, container: str) -> bool:
    """Return whether a process of this machine is in its container's cgroup, so that limits of memory hold for it.

    Args:
        process: Its number here.
        container: Id of the container, after which engines name the cgroup.

    Raises:
        OSError: it is gone.
    """
    found = False
    for line in _read(process, "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        # The second form of cgroups has one tree, number 0, for all controllers that the first does not have.
        if "memory" in controllers.split(","):
            return container in path
        found = number == "0" and container in path
    return found


def _name(number: int) -> str:
    return CAPABILITIES[number] if number < len(CAPABILITIES) else f"CAP_{number}"


def _read(process: int, name: str) -> str:
    with open(f"/proc/{process}/{name}", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _namespace(process: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{process}/ns/{kind}")


def _mounts(table: str) -> dict[str, _Mount]:
    """Return what is mounted where; of several at one place the last, which covers the others."""
    found: dict[str, _Mount] = {}
    for line in table.splitlines():
        words, _, rest = line.partition(" - ")
        _, _, _, root, point, options, *_ = words.split()
        found[point] = _Mount(root, frozenset(options.split(",")), rest.split()[0])
    return found


def _masks(mount: _Mount) -> bool:
    # A directory is covered by an empty one that nobody can fill, a file by the null device.
    return mount.root == "/null" or (mount.type == "tmpfs" and mount.root == "/" and "ro" in mount.options)


def _keeps(mount: _Mount) -> bool:
    return "ro" in mount.options


def _is(path: str, mounts: Mapping[str, _Mount], process: int, judge: Callable[[_Mount], bool]) -> bool:
    mount = mounts.get(path)
    if mount is not None:
        return judge(mount)
    try:
        os.lstat(f"/proc/{process}/root{path}")
    except FileNotFoundError:
        return True
    return False
