"""The dispatch journal: what was (perhaps) sent to a sandbox, told apart from what never was.

One file of fixed records, kept outside every sandbox. A record is appended with one unsynced write before its frame
is sent, so the page cache carries it over the death of the process; over the death of the host nothing does, which is
why the header holds the boot id.

    header   8 bytes magic and version, 36 bytes boot id (padded)
    record   1 byte kind, 16 bytes generation, 16 bytes action or request event, 8 bytes fence, 4 bytes CRC-32
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Final

from chronicled.events.disk import Disk
from chronicled.events.errors import SchemaTooNew, StorageFull, StoreFailed
from chronicled.events.ids import id_bytes, id_text

__all__ = ["Journal"]

MAGIC: Final = b"chrjrnl\x01"
HEADER: Final = struct.Struct(">8s36s")
BODY: Final = struct.Struct(">B16s16sQ")
RECORD_BYTES: Final = BODY.size + 4
DISPATCHED: Final = 1
REQUEST: Final = 2
COMPLETE: Final = 3
BYTES_MAX: Final = 4 << 20
"""From this size on it is compacted while running."""

Entry = tuple[int, str, str]


class Journal:
    """What this worker, or the one before it in this boot of the host, has sent.

    It speaks for a generation only if it says so itself (`vouches`), which it does from before the first action was
    sent to it. A journal that was missing, of another boot of the host, or damaged before its end speaks for none of
    the generations before it. A torn last record is what a crash leaves, and is tolerated: its frame was never sent.

    Args:
        directory: Where the file `dispatch` lives; nobody else writes there.
        boot_id: The host's boot id.
        disk: The disk.

    Raises:
        SchemaTooNew: a newer version wrote it.
        StorageFull: there is no room for a new journal.
        StoreFailed: reading or writing failed otherwise.
    """

    def __init__(self, directory: str, boot_id: str, disk: Disk) -> None:
        self._directory = directory
        self._path = os.path.join(directory, "dispatch")
        self._boot_id = boot_id
        self._disk = disk
        self._descriptor = -1
        self._size = 0
        self._entries: dict[Entry, int] = {}
        self._compact_at = BYTES_MAX
        whole = self._load()
        try:
            # A fresh file at once: what is appended next must not follow a torn record.
            self.compact()
        except StorageFull:
            if not whole:
                raise
            self._go_on()

    def _go_on(self) -> None:
        try:
            self._descriptor = self._disk.open(self._path, os.O_WRONLY | os.O_APPEND)
            os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            raise _failure(error) from error

    def _load(self) -> bool:
        """Return whether the file can be gone on with: it is of this boot, and whole but for a torn last record."""
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreFailed(f"The dispatch journal cannot be read: {error}.") from error
        if data[: len(MAGIC) - 1] == MAGIC[:-1] and data[len(MAGIC) - 1 : len(MAGIC)] > MAGIC[-1:]:
            # Taken for damaged, it would make `unknown` of what can be known.
            raise SchemaTooNew(
                f"The dispatch journal {self._path} is of version {data[len(MAGIC) - 1]}; this one knows {MAGIC[-1]}. "
                "Use the version that wrote it."
            )
        if data[: HEADER.size] != self._header():
            return False
        entries: dict[Entry, int] = {}
        for start in range(HEADER.size, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
            body = data[start : start + BODY.size]
            if zlib.crc32(body) != int.from_bytes(data[start + BODY.size : start + RECORD_BYTES], "big"):
                return False
            kind, generation, subject, fence = BODY.unpack(body)
            entries[kind, id_text(generation), id_text(subject)] = fence
        self._entries = entries
        self._size = len(data) - (len(data) - HEADER.size) % RECORD_BYTES
        return True

    def _header(self) -> bytes:
        return HEADER.pack(MAGIC, self._boot_id.encode()[:36])

    def vouch(self, generation: str, fence: int) -> None:
        """Record that from here on all that is sent to the generation is noted. Raises as `note_dispatch`."""
        if not self.vouches(generation):
            self._note((COMPLETE, generation, generation), fence)

    def vouches(self, generation: str) -> bool:
        """Tell whether everything that was sent to the generation is noted here."""
        return (COMPLETE, generation, generation) in self._entries

    def note_dispatch(self, generation: str, action: str, fence: int) -> None:
        """Record that the action is about to be sent to the generation. One write, not synced.

        Raises:
            StorageFull: no room; the journal is as before, and the action must not be sent.
            StoreFailed: the write failed otherwise; stop the process.
        """
        self._note((DISPATCHED, generation, action), fence)

    def note_request(self, generation: str, event: str, fence: int) -> None:
        """Record that the input or interrupt of that event id is about to be sent. Raises as `note_dispatch`."""
        self._note((REQUEST, generation, event), fence)

    def dispatched(self, generation: str, action: str) -> bool:
        """Tell whether the action may have been sent to the generation."""
        return (DISPATCHED, generation, action) in self._entries

    def requested(self, generation: str, event: str) -> bool:
        """Tell whether the input or interrupt may have been sent."""
        return (REQUEST, generation, event) in self._entries

    def forget(self, generation: str, subjects: Iterable[str]) -> None:
        """Drop what was noted of ended actions or their requests; the next compaction drops it on disk too."""
        for subject in subjects:
            self._entries.pop((DISPATCHED, generation, subject), None)
            self._entries.pop((REQUEST, generation, subject), None)

    def forget_generation(self, generation: str) -> None:
        """Drop everything that was noted of a generation that has ended."""
        for entry in [entry for entry in self._entries if entry[1] == generation]:
            del self._entries[entry]

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Drop everything of generations that are not wanted, then compact if there is room.

        Raises:
            StoreFailed: a write failed otherwise; stop the process.
        """
        for entry in [entry for entry in self._entries if not wanted(entry[1])]:
            del self._entries[entry]
        with contextlib.suppress(StorageFull):
            self.compact()

    def compact(self) -> None:
        """Replace the file by one that holds what is remembered, in one step.

        Raises:
            StorageFull: no room; the old file stays in use.
            StoreFailed: a write failed otherwise; stop the process.
        """
        records = b"".join(_record(entry, fence) for entry, fence in self._entries.items())
        temporary = f"{self._path}.new"
        descriptor = -1
        try:
            descriptor = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            self._disk.write(descriptor, self._header() + records)
            self._disk.replace(temporary, self._path)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise _failure(error) from error
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = HEADER.size + len(records)
        self._compact_at = max(BYTES_MAX, 2 * self._size)

    def _note(self, entry: Entry, fence: int) -> None:
        if self._size >= self._compact_at:
            self.compact()
        try:
            self._disk.write(self._descriptor, _record(entry, fence))
        except OSError as error:
            # Part of the record may stand in the file; it must not shift those that follow.
            os.ftruncate(self._descriptor, self._size)
            raise _failure(error) from error
        self._size += RECORD_BYTES
        self._entries[entry] = fence

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _record(entry: Entry, fence: int) -> bytes:
    body = BODY.pack(entry[0], id_bytes(entry[1]), id_bytes(entry[2]), fence)
    return body + zlib.crc32(body).to_bytes(4, "big")


def _failure(error: OSError) -> StorageFull | StoreFailed:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageFull("There is no room for the dispatch journal.")
    return StoreFailed(f"The dispatch journal cannot be written: {error}.")
