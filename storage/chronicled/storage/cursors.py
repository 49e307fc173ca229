"""Named cursors: how far consumers are who want the daemon to remember it (D4); a small file each, beside the log."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from chronicled.events.clock import Clock, SystemClock, format_time
from chronicled.events.cursor import Cursor
from chronicled.events.disk import Disk
from chronicled.events.errors import ChronicledError, LogCorrupt, Refused, StorageFull, StoreFailed
from chronicled.events.ids import check_name

__all__ = ["CURSORS_MAX", "CURSORS_NAME", "CursorStore", "SavedCursor"]

CURSORS_NAME: Final = "cursors"
"""The directory's name in a data directory."""
CURSORS_MAX: Final = 1000
"""Names of one tenant."""
SUFFIX: Final = ".json"
FRESH: Final = ".new"
BYTES_MAX: Final = 4096
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SavedCursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a consumer is, as it said."""

    name: str
    position: int
    incarnation: str
    time: str
    """When it said so."""

    @property
    def cursor(self) -> Cursor:
        """The place itself, bound to the log that it was said of."""
        return Cursor(self.position, self.incarnation)


class CursorStore:
    """Named cursors in a directory of their own, by tenant.

    A cursor is written beside its file, synced, renamed over it, and the directory synced: whatever crashes, the name
    stands for the cursor before or the new one, and for the new one once `save` has returned. Calls are done one after
    another, in the order in which they came, so that of two saves the later one holds.

    Args:
        directory: Where they are; made (0700) with the first one.
        disk: What writes, syncs and renames.
        clock: Tells when a cursor was saved.
    """

    def __init__(self, directory: Path, disk: Disk, clock: Clock | None = None) -> None:
        self._directory = directory
        self._disk = disk
        self._clock = clock or SystemClock()
        self._lock = anyio.Lock()

    async def save(self, tenant: str, name: str, position: int, incarnation: str) -> tuple[SavedCursor, bool]:
        """Remember the cursor under the name, durably; return it, and whether the name is new.

        Raises:
            InvalidName: the name has another form.
            Refused: the tenant has 1000 names already.
            StorageFull: there is no room; the cursor before is kept.
            StoreFailed: it could not be written; the cursor before is kept, or this one.

        Cancellation: it is saved or not; a repeat is harmless.
        """
        time = format_time(self._clock.now_us())
        saved = SavedCursor(name=name, position=position, incarnation=incarnation, time=time)
        path = self._path(tenant, name)
        async with self._lock:
            return saved, await anyio.to_thread.run_sync(self._save, path, saved)

    async def find(self, tenant: str, name: str) -> SavedCursor | None:
        """Return the cursor of that name, None when there is none.

        Raises:
            InvalidName: the name has another form.
            LogCorrupt: its file cannot be read.
        """
        path = self._path(tenant, name)
        async with self._lock:
            return await anyio.to_thread.run_sync(_read, path)

    async def all(self, tenant: str) -> list[SavedCursor]:
        """Return the tenant's cursors by name.

        Raises:
            LogCorrupt: a file cannot be read.
        """
        async with self._lock:
            return await anyio.to_thread.run_sync(self._all, self._directory / tenant)

    async def delete(self, tenant: str, name: str) -> SavedCursor | None:
        """Forget the cursor of that name, durably; return it, None when there was none.

        Raises:
            InvalidName: the name has another form.
            StoreFailed: it could not be done.
        """
        path = self._path(tenant, name)
        async with self._lock:
            return await anyio.to_thread.run_sync(self._delete, path)

    def _path(self, tenant: str, name: str) -> Path:
        return self._directory / tenant / f"{check_name(name, 'cursor name')}{SUFFIX}"

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _save(self, path: Path, saved: SavedCursor) -> bool:
        fresh = path.with_name(f"{path.name}{FRESH}")
        try:
            self._make(path.parent)
            new = not path.exists()
            if new and len(self._files(path.parent)) >= CURSORS_MAX:
                raise Refused(f"There are {CURSORS_MAX} named cursors already; delete those that nobody uses.")
            descriptor = self._disk.open(str(fresh), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                self._disk.write(descriptor, msgspec.json.encode(saved))
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            self._disk.replace(str(fresh), str(path))
            self._disk.sync_directory(str(path.parent))
        except OSError as error:
            with suppress(OSError):
                fresh.unlink()
            raise _failure(error) from error
        return new

    def _make(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory.chmod(0o700)
            self._disk.sync_directory(str(self._directory.parent))
            self._disk.sync_directory(str(self._directory))

    def _all(self, folder: Path) -> list[SavedCursor]:
        found = [_read(path) for path in self._files(folder)]
        return [saved for saved in found if saved is not None]

    def _files(self, folder: Path) -> list[Path]:
        return sorted(folder.glob(f"*{SUFFIX}")) if folder.exists() else []

    def _delete(self, path: Path) -> SavedCursor | None:
        saved = _read(path)
        if saved is not None:
            try:
                path.unlink()
                self._disk.sync_directory(str(path.parent))
            except OSError as error:
                raise _failure(error) from error
        return saved


def _read(path: Path) -> SavedCursor | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(BYTES_MAX), type=SavedCursor)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogCorrupt(f"The cursor {path} cannot be read: {error}. Save or delete it.") from None


def _failure(error: OSError) -> ChronicledError:
    if error.errno in NO_ROOM:
        return StorageFull("The disk is full; the cursor was not saved.")
    return StoreFailed(f"The cursor could not be saved: {error.strerror or error}.")
