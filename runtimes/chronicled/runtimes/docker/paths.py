"""Paths that may be mounted: from the host by an allow-list, into a sandbox where nothing of ours is covered.

A path is judged as it is on the disk, with every symbolic link and `..` resolved, and as an inode: another name of the
same directory is the same directory. `resolve` and `protected_paths` look at the disk; the rest is pure.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import Volume
from chronicled.runtimes.carrier import recipe

__all__ = [
    "CARRIER",
    "HostPath",
    "identity_within",
    "is_host_path",
    "is_within",
    "misplaced",
    "normal",
    "protected_paths",
    "resolve",
    "unlisted",
]

CARRIER: Final = recipe.MOUNT_PATH
_OWN: Final = "/workspace"
_RESERVED: Final = (CARRIER, "/proc", "/sys", "/dev")
"""Targets that nothing may be mounted at or below."""
_SENSITIVE: Final = (
    "/",
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/boot",
    "/run",
    "/var/run",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
)
"""Sources that are never mounted, with all below and all above them, whatever the configuration says."""
_VOLUME_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class HostPath(NamedTuple):
    """A path of the host as it is: without links, and the inode at its end."""

    path: str
    identity: tuple[int, int]


def is_host_path(source: str) -> bool:
    """Return whether a volume's source is a path; it is a volume's name otherwise."""
    return source.startswith("/")


def normal(path: str) -> str:
    """Return the path without `.`, `..` and doubled slashes, as text."""
    # POSIX gives two leading slashes a meaning of their own; Linux does not.
    return posixpath.normpath("/" + path.lstrip("/"))


def unlisted(volumes: Iterable[Volume], allowed: Sequence[str]) -> list[str]:
    """Return why volumes are refused before anybody looks at the disk: the allow-list has nothing like them."""
    reasons: list[str] = []
    for volume in volumes:
        source = volume.source
        if is_host_path(source):
            if not any(is_within(normal(source), normal(entry)) for entry in allowed if is_host_path(entry)):
                reasons.append(f"volumes: {source} is not below any path of docker.volumes_allowed")
        elif not _VOLUME_NAME.fullmatch(source) or source not in allowed:
            reasons.append(f"volumes: the volume {source[:128]!r} is not in docker.volumes_allowed")
    return reasons


def misplaced(volumes: Sequence[str], tmpfs: Sequence[str]) -> list[str]:
    """Return why mounts are refused for their place in the sandbox."""
    reasons: list[str] = []
    seen: set[str] = set()
    for field, target in [("volumes", each) for each in volumes] + [("tmpfs", each) for each in tmpfs]:
        place = normal(target)
        if place != target:
            reasons.append(f"{field}: {target} is not a plain absolute path")
        elif place in {"/", _OWN} or any(is_within(place, reserved) for reserved in _RESERVED):
            reasons.append(f"{field}: nothing can be mounted at {target}")
        elif place in seen:
            reasons.append(f"{field}: {target} is named twice")
        seen.add(place)
    return reasons


def protected_paths(own: Iterable[str]) -> list[HostPath]:
    """Return what no sandbox may see of this host: the system's own, and those given. Looks at the disk."""
    found: dict[str, HostPath] = {}
    for path in (*_SENSITIVE, *own):
        real = os.path.realpath(path)
        try:
            status = os.stat(real)
            identity = (status.st_dev, status.st_ino)
        except OSError:
            # Not there, or not ours to see: its name is judged all the same.
            identity = (-1, -1)
        found[real] = HostPath(real, identity)
    return list(found.values())


def resolve(source: str, allowed: Sequence[str], protected: Sequence[HostPath]) -> HostPath:
    """Return a host path that a session asks for, as it is. Looks at the disk.

    Raises:
        SandboxStartFailed: it is not there, is neither directory nor file, leads out of the allow-list, or to or around
            something protected.
    """
    real = os.path.realpath(source)
    try:
        status = os.stat(real, follow_symlinks=False)
    except OSError as error:
        raise SandboxStartFailed(f"volumes: {source} cannot be mounted: {error.strerror}") from None
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        raise SandboxStartFailed(f"volumes: {source} is neither a directory nor a regular file")
    if not any(is_within(real, os.path.realpath(entry)) for entry in allowed if is_host_path(entry)):
        raise SandboxStartFailed(f"volumes: {source} leads to {real}, which docker.volumes_allowed does not allow")
    identity = (status.st_dev, status.st_ino)
    # What is above it counts too: a directory has the inode of what is mounted on it.
    above = _identities(real)
    for each in protected:
        if is_within(each.path, real) or (each.path != "/" and (is_within(real, each.path) or each.identity in above)):
            raise SandboxStartFailed(f"volumes: {source} would show {each.path}, which no sandbox may see")
    return HostPath(real, identity)


def identity_within(process: int, target: str) -> tuple[int, int]:
    """Return the inode that a process sees at a path, without following any link. Looks at the disk.

    Raises:
        PermissionError: its view is not ours to see.
        OSError: there is nothing, or a symbolic link on the way.
    """
    descriptor = os.open(f"/proc/{process}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        for name in target.strip("/").split("/"):
            inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        status = os.fstat(descriptor)
        if stat.S_ISLNK(status.st_mode):
            raise OSError(errno.ELOOP, "a symbolic link stands there")
    finally:
        os.close(descriptor)
    return (status.st_dev, status.st_ino)


def _identities(real: str) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    path = real
    while path != "/":
        try:
            status = os.stat(path)
        except OSError:
            break
        found.add((status.st_dev, status.st_ino))
        path = os.path.dirname(path)
    return found


def is_within(path: str, root: str) -> bool:
    """Return whether a path is the root, or below it, both as text."""
    return path == root or root == "/" or path.startswith(root + "/")
