"""Listening sockets: a Unix socket that only its owner can reach, unless others are named, and TCP on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from typing import Final, Self

from chronicled.daemon.locations import make_private
from chronicled.events.errors import DataDirectoryBusy, Refused

__all__ = ["UnixListener", "listen_tcp", "read_token"]

BACKLOG: Final = 512
UNIX_PATH_BYTES_MAX: Final = 107


class UnixListener:
    """The right to listen on a Unix socket path, and the socket once `listen` was called: of mode 0600. Close it.

    A lock beside the socket tells a living daemon's socket from a dead one's, without a race: the socket of the dead is
    replaced, that of the living never. The socket appears under its name only when it listens.

    Args:
        path: Where it appears; its directory is created 0700 if it is missing.
        shared: Let others connect too (0666, and its directory, where that is ours, let through): whoever listens tells
            by their credentials who may.

    Raises:
        DataDirectoryBusy: a living process listens there.
        Refused: something that is no socket stands there, or everybody may replace what stands there, or the directory
            cannot be written.
    """

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self._shared = shared
        self.path = os.path.abspath(path)
        directory, self._name = os.path.split(self.path)
        _check_directory(directory)
        try:
            self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Refused(f"The socket's directory {directory} cannot be opened: {error.strerror}.") from None
        self._lock = -1
        try:
            self._take_lock()
            if shared:
                _let_through(directory)
        except BaseException:
            self._release()
            raise
        self._socket: socket.socket | None = None
        self._inode = 0

    def _take_lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._lock = os.open(f"{self._name}.lock", flags, 0o600, dir_fd=self._directory)
        except OSError as error:
            raise Refused(f"{self.path}.lock cannot be written ({error.strerror}): name another socket.") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryBusy(
                f"Another daemon listens on {self.path}; stop it, or name another socket."
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.stat(self._name, dir_fd=self._directory, follow_symlinks=False).st_mode):
                raise Refused(f"{self.path} exists and is not a socket.")
            if self._answers():
                raise DataDirectoryBusy(f"Another process listens on {self.path}; stop it, or name another socket.")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(self._address(self._name))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except OSError:
                return True
        return True

    def listen(self) -> socket.socket:
        """Listen, then put the socket under its name; a dead daemon's socket is replaced."""
        fresh = f".{self._name}.{secrets.token_hex(4)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(self._address(fresh))
            # Nobody can connect before `listen`, so there is no moment at which others could.
            os.chmod(fresh, 0o666 if self._shared else 0o600, dir_fd=self._directory)
            listener.listen(BACKLOG)
            os.replace(fresh, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except BaseException:
            listener.close()
            with contextlib.suppress(OSError):
                os.unlink(fresh, dir_fd=self._directory)
            raise
        self._inode = os.stat(self._name, dir_fd=self._directory).st_ino
        self._socket = listener
        return listener

    def _address(self, name: str) -> str:
        path = os.path.join(os.path.dirname(self.path), name)
        # Longer paths do not fit the kernel's structure; the directory's descriptor stands for them.
        return path if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX else f"/proc/self/fd/{self._directory}/{name}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the socket, unless another has taken its name, and let go of the lock."""
        with contextlib.suppress(OSError):
            if self._inode and os.stat(self._name, dir_fd=self._directory).st_ino == self._inode:
                os.unlink(self._name, dir_fd=self._directory)
        if self._socket is not None:
            self._socket.close()
        self._release()

    def _release(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        os.close(self._directory)


def _check_directory(directory: str) -> None:
    if not os.path.isdir(directory):
        make_private(directory)
        return
    mode = os.stat(directory).st_mode
    # In /tmp the sticky bit keeps everybody's hands off what is another's.
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise Refused(
            f"Everybody may write to {directory} and put another socket in place of the daemon's: "
            "chmod 700 it, or name another socket."
        )


def _let_through(directory: str) -> None:
    """Let others reach what they know the name of; what stands above the directory is the operator's."""
    found = os.stat(directory)
    if found.st_uid == os.geteuid():
        os.chmod(directory, stat.S_IMODE(found.st_mode) | 0o011)


def listen_tcp(address: str) -> socket.socket:
    """Return a socket that listens on HOST:PORT; the configuration has checked that it is a loopback address.

    Raises:
        Refused: the address is taken or not ours.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Refused(f"Cannot listen on {address}: {error.strerror or error}.") from None
    return listener


def read_token(path: str, *, create: bool) -> str:
    """Return the bearer token in the file, made first if it is missing and `create`.

    Raises:
        Refused: there is no such file, others may read it, or it holds less than 32 characters.
    """
    if create:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_urlsafe(32) + "\n")
    try:
        with open(path, encoding="ascii") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise Refused(f"Others may read the token file {path}: chmod 600 it.")
            token = stream.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"The token file {path} cannot be read: {error}.") from None
    if len(token) < 32:
        raise Refused(f"The token in {path} is shorter than 32 characters.")
    return token
