"""Blobs in memory: the whole contract but durability. For tests and trials."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator

import anyio.to_thread

from chronicled.events.blobs import BlobRef
from chronicled.events.errors import BlobNotFound, StoreFailed
from chronicled.storage.blobs import CHUNK_BYTES, check_range, is_digest, too_large

__all__ = ["MemoryBlobStore"]


class MemoryBlobStore:
    """A `BlobStore` in a dictionary; it grows until it is dropped."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    async def put(self, data: bytes) -> BlobRef:
        """Keep `data`."""
        digest = hashlib.sha256(data).hexdigest()
        self._blobs.setdefault(digest, bytes(data))
        return BlobRef(digest, len(data))

    async def receive(self, chunks: AsyncIterable[bytes], bytes_max: int) -> BlobRef:
        """Keep what comes.

        Raises:
            PayloadTooLarge: more than `bytes_max` came.
        """
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if len(data) > bytes_max:
                raise too_large(bytes_max)
        return await self.put(bytes(data))

    async def adopt(self, path: str, digest: str, size: int) -> BlobRef:
        """Take the file's bytes and remove it; a repeat finds the blob.

        Raises:
            StoreFailed: the file is missing or has another size.
        """
        if not is_digest(digest):
            raise ValueError(f"not a SHA-256 in lower-case hex: {digest[:80]!r}")
        try:
            data = await anyio.Path(path).read_bytes()
        except FileNotFoundError:
            if len(self._blobs.get(digest, b"")) == size and digest in self._blobs:
                return BlobRef(digest, size)
            raise StoreFailed(f"The file to become blob {digest} is missing.") from None
        if len(data) != size:
            raise StoreFailed(f"The file to become blob {digest} is not a file of {size} bytes.")
        self._blobs[digest] = data
        await anyio.to_thread.run_sync(os.unlink, path)
        return BlobRef(digest, size)

    async def size(self, digest: str) -> int:
        """Return the size in bytes.

        Raises:
            BlobNotFound: there is none of that digest.
        """
        return len(self._find(digest))

    async def read(self, digest: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield bytes of a blob; see `BlobStore.read`.

        Raises:
            BlobNotFound: there is none of that digest.
            ValueError: `offset` or `length` is negative.
        """
        check_range(offset, length)
        data = self._find(digest)
        end = len(data) if length is None else min(len(data), offset + length)
        for start in range(offset, end, CHUNK_BYTES):
            yield data[start : min(start + CHUNK_BYTES, end)]

    def _find(self, digest: str) -> bytes:
        if digest not in self._blobs:
            raise BlobNotFound(f"There is no blob {digest[:80]!r}.")
        return self._blobs[digest]
