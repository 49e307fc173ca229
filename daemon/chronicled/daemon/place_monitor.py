"""Watches the data directory: a daemon whose directory is gone must not go on as if what it takes were kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from chronicled.events.errors import StoreFailed
from chronicled.storage.lock import DirectoryLock

__all__ = ["watch_place"]

INTERVAL_SECONDS: Final = 1.0


async def watch_place(lock: DirectoryLock, fail: Callable[[StoreFailed], None]) -> None:
    """Look each second whether the lock is still the one in the data directory. Cancellation: safe.

    Removed, moved or put in another's place, nothing that is appended would be found again, and whoever begins anew
    under the same path would have its sandboxes swept by this daemon: `fail` ends the process.
    """
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        if lock.displaced:
            fail(StoreFailed(f"{lock.directory} was removed, moved or replaced while it was in use."))
