"""Blobs as files: one file a digest, in a fan-out of directories; on the medium before anybody is told."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from chronicled.events.blobs import BlobRef
from chronicled.events.disk import Disk
from chronicled.events.errors import BlobNotFound, ChronicledError, PayloadTooLarge, StorageFull, StoreFailed
from chronicled.events.ids import Randomness, SystemRandomness

__all__ = ["CHUNK_BYTES", "FileBlobStore", "check_range", "is_digest", "too_large"]

CHUNK_BYTES: Final = 256 << 10
"""Largest chunk that a read yields."""
BATCH_BYTES: Final = 1 << 20
"""What is received is written in pieces of so much."""
THREADS_MAX: Final = 4
"""Most threads that one store keeps busy, and so most blobs that wait for the disk at one time."""
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
INCOMING: Final = "incoming"
"""Where files are written before they have their name; emptied at each start."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

T = TypeVar("T")


class FileBlobStore:
    """A `BlobStore` in a directory of its own.

    A blob's file is synced, then renamed to its digest, then its directory is synced; so a name that can be seen always
    stands for whole bytes, whatever crashed. Every call of the disk runs in a thread.

    Args:
        directory: Where the blobs are; made (0700) if it is missing. One store at a time may use it.
        disk: What writes, syncs and renames.
        randomness: Names for files that are still being written.

    Raises:
        OSError: the directory cannot be made or read.
    """

    def __init__(self, directory: str, disk: Disk, randomness: Randomness | None = None) -> None:
        self._directory = os.path.abspath(directory)
        self._disk = disk
        self._randomness = randomness or SystemRandomness()
        self._threads = anyio.CapacityLimiter(THREADS_MAX)
        self._folders: set[str] = set()
        """Fan-out directories whose own entry is known to be on the medium."""
        incoming = os.path.join(self._directory, INCOMING)
        os.makedirs(incoming, mode=0o700, exist_ok=True)
        for name in os.listdir(incoming):
            os.unlink(os.path.join(incoming, name))
        disk.sync_directory(self._directory)

    async def put(self, data: bytes) -> BlobRef:
        """Store `data`; see `BlobStore.put`. Cancellation: waits for the disk, the blob is whole or absent."""
        return await self._in_thread(self._put, data)

    async def receive(self, chunks: AsyncIterable[bytes], bytes_max: int) -> BlobRef:
        """Store what comes in chunks; see `BlobStore.receive`."""
        temporary = os.path.join(self._directory, INCOMING, self._randomness.bytes(16).hex())
        digest, size = hashlib.sha256(), 0
        descriptor = await self._in_thread(self._disk.open, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            try:
                async with aclosing(_batches(chunks)) as batches:
                    async for batch in batches:
                        size += len(batch)
                        if size > bytes_max:
                            raise too_large(bytes_max)
                        await self._in_thread(self._append, descriptor, batch, digest.update)
            finally:
                os.close(descriptor)
            return await self._in_thread(self._adopt, temporary, digest.hexdigest(), size)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    async def adopt(self, path: str, digest: str, size: int) -> BlobRef:
        """Move a finished file in under `digest`; see `BlobStore.adopt`.

        A repeat after a crash is harmless: when `path` is gone and the blob is there, the blob is the answer.

        Raises:
            StorageFull: there is no room for its name; the file stays where it was.
            StoreFailed: the file is missing or has another size, or a sync or rename failed.
        """
        return await self._in_thread(self._adopt, path, _checked(digest), size)

    async def size(self, digest: str) -> int:
        """Return the size in bytes.

        Raises:
            BlobNotFound: there is none of that digest.
        """
        return await self._in_thread(self._size, digest)

    async def read(self, digest: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes of a blob; see `BlobStore.read`.

        Raises:
            BlobNotFound: there is none of that digest.
            ValueError: `offset` or `length` is negative.
        """
        check_range(offset, length)
        descriptor = await self._in_thread(self._open, digest)
        try:
            left = length
            while left is None or left > 0:
                wanted = CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)
                chunk = await self._in_thread(os.pread, descriptor, wanted, offset)
                if not chunk:
                    return
                yield chunk
                offset += len(chunk)
                left = None if left is None else left - len(chunk)
        finally:
            os.close(descriptor)

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> BlobRef:
        ref = BlobRef(hashlib.sha256(data).hexdigest(), len(data))
        if self._present(ref):
            return ref
        temporary = os.path.join(self._directory, INCOMING, self._randomness.bytes(16).hex())
        try:
            descriptor = self._disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                self._disk.write(descriptor, data)
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            self._name(temporary, ref)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        return ref

    def _append(self, descriptor: int, data: bytes, note: Callable[[bytes], None]) -> None:
        note(data)
        self._disk.write(descriptor, data)

    def _adopt(self, path: str, digest: str, size: int) -> BlobRef:
        ref = BlobRef(digest, size)
        try:
            descriptor = self._disk.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if self._present(ref):
                return ref
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                raise StoreFailed(f"The file to become blob {digest} is not a file of {size} bytes.")
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)
        if self._present(ref):
            os.unlink(path)
        else:
            self._name(path, ref)
        return ref

    def _present(self, ref: BlobRef) -> bool:
        """Tell whether the blob is there; if so, its name is on the medium when this returns."""
        path = self._path(ref.digest)
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return False
        if status.st_size != ref.size:
            return False  # damaged from outside: the good bytes are at hand and take its place
        self._make_folder(os.path.dirname(path))
        self._disk.sync_directory(os.path.dirname(path))
        return True

    def _name(self, source: str, ref: BlobRef) -> None:
        path = self._path(ref.digest)
        folder = os.path.dirname(path)
        self._make_folder(folder)
        self._disk.replace(source, path)
        self._disk.sync_directory(folder)

    def _make_folder(self, folder: str) -> None:
        if folder not in self._folders:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._disk.sync_directory(self._directory)
            self._folders.add(folder)

    def _size(self, digest: str) -> int:
        descriptor = self._open(digest)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _open(self, digest: str) -> int:
        if not is_digest(digest):
            raise BlobNotFound(f"There is no blob {digest[:80]!r}.")
        try:
            return self._disk.open(self._path(digest), os.O_RDONLY)
        except FileNotFoundError:
            raise BlobNotFound(f"There is no blob {digest}.") from None

    def _path(self, digest: str) -> str:
        return os.path.join(self._directory, digest[:2], digest)

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        try:
            return await anyio.to_thread.run_sync(call, *arguments, limiter=self._threads)
        except OSError as error:
            raise _failure(error) from error


async def _batches(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Yield the same bytes in larger pieces: a visit to a thread costs more than a few KiB are worth."""
    batch = bytearray()
    async for chunk in chunks:
        batch += chunk
        if len(batch) >= BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)


def too_large(bytes_max: int) -> PayloadTooLarge:
    """Return the error for a blob that has more bytes than are taken."""
    return PayloadTooLarge(f"It has more than the {bytes_max} bytes that are allowed.", bytes_max=bytes_max)


def is_digest(text: str) -> bool:
    """Tell whether `text` is a SHA-256 in lower-case hex, and so safe as a file's name."""
    return DIGEST.fullmatch(text) is not None


def check_range(offset: int, length: int | None) -> None:
    """Check what a reader asks for.

    Raises:
        ValueError: `offset` or `length` is negative.
    """
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"a blob has no bytes at offset {offset}, length {length}")


def _checked(digest: str) -> str:
    if not is_digest(digest):
        raise ValueError(f"not a SHA-256 in lower-case hex: {digest[:80]!r}")
    return digest


def _failure(error: OSError) -> ChronicledError:
    if error.errno in NO_ROOM:
        return StorageFull("The disk is full; the blob was not stored. It can be stored again once there is room.")
    return StoreFailed(f"A blob could not be stored or read: {error.strerror or error}.")
