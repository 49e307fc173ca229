"""Which images are ours to remove, and when each was last used: a small file that may be lost without harm.

The engine knows which images there are; this file only says which of them we brought, and so what pruning may take
away. Where the file is gone, nothing is ours, and nothing is removed.
"""

from __future__ import annotations

import os
from typing import Final, Literal

import msgspec
from anyio import CapacityLimiter, to_thread

__all__ = ["Entry", "Ledger"]

ENTRIES_MAX: Final = 10_000
USE_SECONDS: Final = 60.0
Origin = Literal["pulled", "built"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One name that we gave to an image of the engine's."""

    id: str
    origin: Origin
    engine: str
    """Id of the engine that has it: another one's images are not these."""
    used: float
    """Unix time of its last use."""
    tenant: str | None = None
    """Who built it; None for what was pulled."""


class Ledger:
    """The entries by name.

    Args:
        path: The file, 0600; None keeps them in memory only.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}
        self._writing = CapacityLimiter(1)

    @property
    def entries(self) -> dict[str, Entry]:
        """A copy, by full name."""
        return dict(self._entries)

    async def load(self) -> None:
        """Read the file; one that is missing or damaged counts as empty."""
        if self._path is None:
            return
        try:
            data = await to_thread.run_sync(_read, self._path)
            self._entries = msgspec.json.decode(data, type=dict[str, Entry])
        except (OSError, msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            self._entries = {}

    def find(self, name: str, engine: str) -> Entry | None:
        """Return the entry of a name on that engine."""
        found = self._entries.get(name)
        return found if found is not None and found.engine == engine else None

    async def put(self, name: str, entry: Entry) -> None:
        """Set an entry; the longest unused one makes room where there are too many."""
        self._entries[name] = entry
        if len(self._entries) > ENTRIES_MAX:
            self._entries.pop(min(self._entries, key=lambda each: self._entries[each].used))
        await self._save()

    async def use(self, id: str, engine: str, time: float) -> None:
        """Note a use of an image, by whatever name; written at most once a minute for each."""
        due = False
        for name, entry in self._entries.items():
            if entry.id == id and entry.engine == engine:
                self._entries[name] = msgspec.structs.replace(entry, used=time)
                due = due or time - entry.used > USE_SECONDS
        if due:
            await self._save()

    async def drop(self, name: str) -> None:
        """Forget a name. Idempotent."""
        if self._entries.pop(name, None) is not None:
            await self._save()

    async def _save(self) -> None:
        if self._path is not None:
            # One writer at a time, each with what is there when its turn comes: the newest state is written last.
            async with self._writing:
                await to_thread.run_sync(_write, self._path, msgspec.json.encode(self._entries))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(16 << 20)


def _write(path: str, data: bytes) -> None:
    # Not synced: after a crash of the machine an older state only makes less of what is there ours.
    beside = path + ".new"
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.replace(beside, path)
