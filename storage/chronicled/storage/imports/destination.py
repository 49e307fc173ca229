"""The data directory that an import writes to, while no daemon uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from anyio import to_thread

from chronicled.events.blobs import BlobStore
from chronicled.events.errors import DataDirectoryBusy, Refused
from chronicled.events.store import EventStore
from chronicled.storage.blobs import FileBlobStore
from chronicled.storage.disk import SystemDisk
from chronicled.storage.formats import FormatStep, bring_formats
from chronicled.storage.lock import DirectoryLock
from chronicled.storage.sqlite import LOG_NAME, SqliteStore, is_being_rewritten

__all__ = ["Destination", "open_destination", "open_nowhere"]

DERIVED_NAME: Final = "projections.sqlite"
"""What a daemon derives from a log, beside it."""


class Destination(NamedTuple):
    """A log and its blobs."""

    store: EventStore
    blobs: BlobStore


@asynccontextmanager
async def open_destination(
    data: Path, stores: Mapping[str, Sequence[FormatStep]] | None = None
) -> AsyncGenerator[Destination]:
    """Open the log of a data directory, made if there is none, and its blobs; nobody else can open it meanwhile.

    Args:
        data: The data directory.
        stores: The formats of what stands beside the log: what is older is brought on, as at a daemon's start. Without
            them only a directory is opened in which no formats were written down.

    Raises:
        DataDirectoryBusy: a daemon has it; it must be stopped first.
        Refused: the directory cannot be written, its log is gone and what was derived from it is not, or a log is being
            written anew in it.
        SchemaTooNew: a newer version wrote the log, or what stands beside it; nothing was changed.
        LogCorrupt, StoreFailed: the log cannot be opened.
    """
    try:
        lock = DirectoryLock(data)
    except DataDirectoryBusy as error:
        raise DataDirectoryBusy(
            f"{error.detail} An import writes the log itself: stop the daemon, import, start it again; or import into "
            "another directory (--data)."
        ) from None
    with lock:
        if not (data / LOG_NAME).exists() and (data / DERIVED_NAME).exists():
            # Never begin a second chronicle in the place of one that is gone.
            raise Refused(
                f"{data / LOG_NAME} is missing, but what is derived from it is there: restore the log, or import into "
                "another directory (--data)."
            )
        if is_being_rewritten(data):
            raise Refused(f"In {data} a log is being written anew, or that was interrupted: import into another one.")
        # Before the log is touched: a newer version may keep other things in the blobs' places.
        await to_thread.run_sync(bring_formats, data, stores or {})
        async with await SqliteStore.open(data / LOG_NAME, lock=lock) as store:
            yield Destination(store, await to_thread.run_sync(FileBlobStore, str(data / "blobs"), SystemDisk()))


@asynccontextmanager
async def open_nowhere() -> AsyncGenerator[Destination]:
    """Open a log that is gone afterwards, for a dry run without a data directory."""
    from chronicled.storage.memory import MemoryStore
    from chronicled.storage.memory_blobs import MemoryBlobStore

    async with await MemoryStore.open() as store:
        yield Destination(store, MemoryBlobStore())
