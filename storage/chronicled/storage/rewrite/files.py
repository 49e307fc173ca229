"""What of a data directory goes over beside the log: blobs, secrets, identity; linked or copied, and synced."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

__all__ = ["carry_blobs", "carry_files", "remove_building", "sync_tree"]

CHUNK_BYTES: Final = 1 << 20
DIGESTS: Final = "SELECT DISTINCT digest FROM blob_reference"


def carry_files(old: Path, new: Path, names: Sequence[str]) -> None:
    """Copy the named files and folders, as far as they are there, with their permissions; synced by `sync_tree`."""
    for name in names:
        source, target = old / name, new / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        elif source.is_file():
            shutil.copy2(source, target)


def carry_blobs(
    connection: sqlite3.Connection, old: Path, new: Path, progress: Callable[[int, int], None]
) -> list[str]:
    """Bring over every blob that an event of the log names; return the digests of those that are missing or damaged.

    A blob's file never changes, so both directories may have the same one; on another disk it is copied. Each is read
    once, to see that its bytes are those of its digest.
    """
    bad: list[str] = []
    (total,) = connection.execute("SELECT count(DISTINCT digest) FROM blob_reference").fetchone()
    for number, (raw,) in enumerate(connection.execute(DIGESTS)):
        digest = bytes(raw).hex()
        source, target = old / digest[:2] / digest, new / digest[:2] / digest
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _carry(source, target, digest):
            bad.append(digest)
        progress(number + 1, total)
    return bad


def _carry(source: Path, target: Path, digest: str) -> bool:
    try:
        found = hashlib.sha256()
        with source.open("rb") as stream:
            for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
                found.update(chunk)
    except OSError:
        return False
    if found.hexdigest() != digest:
        return False
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return True


def sync_tree(directory: Path) -> None:
    """Put every file and folder below on the medium, each folder after what is in it."""
    for folder in _folders(directory):
        for each in os.scandir(folder):
            if each.is_file(follow_symlinks=False):
                _sync(each.path)
        _sync(folder)


def _folders(directory: Path) -> Iterator[str]:
    for folder, _, _ in os.walk(directory, topdown=False):
        yield folder


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_building(directory: Path, keep: Sequence[str]) -> None:
    """Remove what an interrupted rewrite left in its directory, but for the named files."""
    for each in list(directory.iterdir()):
        if each.name in keep:
            continue
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
