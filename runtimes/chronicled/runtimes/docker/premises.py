"""What a sandbox has for itself: its working directory and its socket directory, on this host.

Everything here blocks for moments: call it in a thread.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import time
from typing import Final

from chronicled.runtimes.action_server.address import SOCKET_NAME
from chronicled.runtimes.action_server.settings import Settings, encode
from chronicled.runtimes.docker.policy import SETTINGS_NAME

__all__ = ["folder", "give_directory", "open_door", "tell", "untell"]

_DOOR_MODE: Final = 0o711
"""Any user of a sandbox may pass through to the socket, and not list; the folder above is the worker's alone."""
_SOCKET_MODE: Final = 0o666
_SETTINGS_MODE: Final = 0o644


def give_directory(path: str, user: str, *, remapped: bool) -> None:
    """Make a sandbox's working directory, owned by its user.

    Where that cannot be, since this process is not root or the engine's user ids are others, it is open to all: the
    folder above it is private.

    Raises:
        OSError: it cannot be made.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    uid, gid = map(int, user.split(":"))
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not remapped and (status.st_uid, status.st_gid) == (uid, gid):
            return
        try:
            if remapped:
                raise PermissionError
            os.fchown(descriptor, uid, gid)
        except PermissionError:
            os.fchmod(descriptor, 0o777)
    finally:
        os.close(descriptor)


def folder(path: str, user: str) -> bytes:
    """Return an archive for the root of a container that has no more than this folder, owned by its user."""
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
    member.uid, member.gid = map(int, user.split(":"))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(member)
    return data.getvalue()


def open_door(directory: str) -> None:
    """Let a sandbox's user reach the worker's socket.

    Raises:
        OSError: the directory is not there.
    """
    os.chmod(directory, _DOOR_MODE)
    with contextlib.suppress(FileNotFoundError):
        os.chmod(os.path.join(directory, SOCKET_NAME), _SOCKET_MODE)


def tell(directory: str, settings: Settings) -> None:
    """Write what the action server is told where it will look for it.

    Raises:
        OSError: it cannot be written.
        ValueError: a value holds NUL.
    """
    data = encode(settings)
    untell(directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(os.path.join(directory, SETTINGS_NAME), flags, _SETTINGS_MODE)
    try:
        os.fchmod(descriptor, _SETTINGS_MODE)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def untell(directory: str) -> None:
    """Destroy what was told. Idempotent.

    Raises:
        OSError: it is still there.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, SETTINGS_NAME))
