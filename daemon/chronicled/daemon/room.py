"""How much room the log takes, and how much is left: for whoever watches that it does not run out."""

from __future__ import annotations

import os

__all__ = ["free_bytes", "log_bytes"]


def log_bytes(data: str) -> int:
    """Return the bytes of the log's database with what is not moved into it yet; 0 of one in memory."""
    return sum(_size(os.path.join(data, f"log.sqlite{part}")) for part in ("", "-wal"))


def free_bytes(data: str) -> int:
    """Return the bytes that an unprivileged user may still write on the data directory's disk."""
    found = os.statvfs(data)
    return found.f_bavail * found.f_frsize


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
