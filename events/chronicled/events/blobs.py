"""Blobs: what is too big for an event, stored once by digest beside the log."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

import msgspec

__all__ = ["BlobRef", "BlobStore"]


class BlobRef(msgspec.Struct, frozen=True):
    """A stored blob: SHA-256 in hex, and its size in bytes."""

    digest: str
    size: int


class BlobStore(Protocol):
    """Content-addressed bytes (D13).

    Durability: a returned `BlobRef` is on the medium, its directory entry too; so an event may name it.
    """

    async def put(self, data: bytes) -> BlobRef:
        """Store `data`; storing the same again costs nothing and gives the same reference.

        Raises:
            StorageFull: there is no room; nothing is left behind.
            StoreFailed: a write or sync failed otherwise.
        """
        ...

    async def receive(self, chunks: AsyncIterable[bytes], bytes_max: int) -> BlobRef:
        """Store what comes in chunks, in bounded memory.

        What the chunks raise goes through, and leaves nothing behind; so does cancellation.

        Raises:
            PayloadTooLarge: more than `bytes_max` came.
            StorageFull, StoreFailed: as `put`.
        """
        ...

    async def adopt(self, path: str, digest: str, size: int) -> BlobRef:
        """Sync the finished file at `path` (same file system, not written any more) and move it in under `digest`.

        Raises:
            StorageFull, StoreFailed: as `put`.
        """
        ...

    async def size(self, digest: str) -> int:
        """Return the size in bytes.

        Raises:
            BlobNotFound: there is none of that digest.
        """
        ...

    def read(self, digest: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `offset`, at most `length`, in chunks of at most 256 KiB.

        Raises:
            BlobNotFound: there is none of that digest.
        """
        ...
