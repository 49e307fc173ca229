"""What a sandbox has on this host: its directories, its token, its spools; made, found again, removed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Final

import structlog

from chronicled.events.disk import Disk
from chronicled.runtimes import process_proof
from chronicled.runtimes.removal import remove_tree
from chronicled.runtimes.worker.settings import Directories

__all__ = ["forget_orphans", "open_results", "prepare", "read_token", "remove", "restore"]

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_log = structlog.get_logger("chronicled.worker")


def prepare(directories: Directories, disk: Disk, sandbox: str, generation: str, token: str) -> None:
    """Make the directories of a new sandbox and put its token there (0600). Blocks.

    Raises:
        OSError: they cannot be made.
    """
    for path in (
        directories.sandbox(sandbox),
        directories.home(sandbox),
        directories.socket_directory(sandbox),
        directories.generation_spool(generation),
    ):
        os.makedirs(path, mode=0o700, exist_ok=True)
    descriptor = disk.open(directories.token(sandbox), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        disk.write(descriptor, token.encode())
    finally:
        os.close(descriptor)


def restore(directories: Directories, sandbox: str, generation: str) -> str:
    """Make what may be missing of a sandbox that may live, and return its token, empty when that is lost. Blocks.

    The runtime directory may have been cleared (a logout does that), the rest should stand.
    """
    for path in (directories.socket_directory(sandbox), directories.generation_spool(generation)):
        os.makedirs(path, mode=0o700, exist_ok=True)
    return read_token(directories.token(sandbox))


def read_token(path: str) -> str:
    """Return the token in the file, empty when there is none. Blocks."""
    try:
        with open(path) as file:
            return file.read(1024)
    except OSError:
        return ""


def open_results(directories: Directories, disk: Disk, generation: str) -> int:
    """Open the generation's result spool; its server gets the descriptor, never the path."""
    return disk.open(directories.results(generation), os.O_RDWR | os.O_CREAT)


def forget_orphans(directories: Directories, needed: Callable[[str], bool]) -> list[str]:
    """Remove what a crash has left of sandboxes that are not needed any more, by their ids; return those. Blocks.

    What a process of this host still holds locked stays, and what has no sandbox's name.
    """
    found = {*os.listdir(directories.sandboxes), *os.listdir(directories.sockets)}
    orphans = sorted(name for name in found if _ID.fullmatch(name) and not needed(name))
    gone: list[str] = []
    for name in orphans:
        folder = directories.sandbox(name)
        if not os.path.isdir(folder) or not process_proof.is_locked(folder):
            remove(directories.socket_directory(name))
            remove(folder)
            gone.append(name)
    return gone


def remove(path: str) -> None:
    """Remove a directory and all below it, however deep, what its owner made unreadable too. Idempotent. Blocks."""
    if not remove_tree(path):
        # Of a user that is not ours (an engine with user ids of its own), or on a disk that fails.
        _log.warning("files_left", path=path)
