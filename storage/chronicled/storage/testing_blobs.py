"""The contract of a `BlobStore` as a shipped test suite: subclass it and give it a store.

class TestFileBlobStore(BlobStoreContract):
    @pytest.fixture
    def blobs(self, tmp_path): return FileBlobStore(str(tmp_path / "blobs"), SystemDisk())
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from chronicled.events.blobs import BlobRef, BlobStore
from chronicled.events.errors import BlobNotFound, PayloadTooLarge, StoreFailed

__all__ = ["BlobStoreContract"]

CHUNK_BYTES_MAX = 256 << 10
BIG = bytes(range(256)) * 3000


async def _whole(blobs: BlobStore, digest: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(digest, offset, length)])


async def _chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class BlobStoreContract:
    """What every blob store keeps; the subclass has a fixture `blobs` with an empty one."""

    @pytest.fixture
    def blobs(self) -> BlobStore:
        """Return an empty store."""
        raise NotImplementedError

    @pytest.mark.parametrize("data", [b"", b"x", BIG], ids=["empty", "byte", "big"])
    async def test_what_is_put_is_read_back(self, blobs: BlobStore, data: bytes) -> None:
        """A reference is the SHA-256 and size of the bytes, and gives them back."""
        ref = await blobs.put(data)
        assert ref == BlobRef(hashlib.sha256(data).hexdigest(), len(data))
        assert await blobs.size(ref.digest) == len(data)
        assert await _whole(blobs, ref.digest) == data

    @pytest.mark.parametrize("data", [b"", b"x", BIG * 3], ids=["empty", "byte", "big"])
    async def test_what_is_received_is_read_back(self, blobs: BlobStore, data: bytes) -> None:
        """Bytes that come in chunks of any size make the same blob as bytes that are put."""
        for size in (1 + len(data) // 7, 70_000):
            ref = await blobs.receive(_chunks(data, size), len(data))
            assert ref == BlobRef(hashlib.sha256(data).hexdigest(), len(data))
        assert await _whole(blobs, ref.digest) == data

    async def test_what_is_too_large_or_breaks_off_leaves_nothing(self, blobs: BlobStore) -> None:
        """More than was allowed is refused, an error of the chunks goes through, and neither makes a blob."""
        with pytest.raises(PayloadTooLarge):
            await blobs.receive(_chunks(BIG, 10_000), len(BIG) - 1)

        async def broken() -> AsyncIterator[bytes]:
            yield BIG
            raise ConnectionResetError("gone")

        with pytest.raises(ConnectionResetError):
            await blobs.receive(broken(), 1 << 30)
        with pytest.raises(BlobNotFound):
            await blobs.size(hashlib.sha256(BIG).hexdigest())

    async def test_the_same_bytes_have_one_reference(self, blobs: BlobStore) -> None:
        """Storing the same again, also at the same time, gives the same reference and harms nothing."""
        refs: list[BlobRef] = []

        async def put() -> None:
            refs.append(await blobs.put(BIG))

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(put)
        assert len(set(map(repr, refs))) == 1
        assert await _whole(blobs, refs[0].digest) == BIG

    @pytest.mark.parametrize(
        ("offset", "length"),
        [
            (0, 0),
            (0, 1),
            (1, None),
            (262_143, 2),
            (262_144, 262_145),
            (len(BIG) - 1, 10),
            (len(BIG), None),
            (1 << 40, 5),
        ],
    )
    async def test_a_range_is_a_slice(self, blobs: BlobStore, offset: int, length: int | None) -> None:
        """A ranged read gives what slicing gives, also over chunk edges and behind the end."""
        ref = await blobs.put(BIG)
        end = None if length is None else offset + length
        assert await _whole(blobs, ref.digest, offset, length) == BIG[offset:end]

    async def test_chunks_are_bounded(self, blobs: BlobStore) -> None:
        """No chunk is over 256 KiB, so that a reader's memory does not depend on the blob's size."""
        ref = await blobs.put(BIG)
        sizes = [len(chunk) async for chunk in blobs.read(ref.digest)]
        assert sum(sizes) == len(BIG)
        assert max(sizes) <= CHUNK_BYTES_MAX
        assert min(sizes) > 0

    async def test_a_negative_range_is_refused(self, blobs: BlobStore) -> None:
        """A negative offset or length is a mistake and not a slice from the end."""
        ref = await blobs.put(b"abc")
        for offset, length in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match="no bytes at"):
                await _whole(blobs, ref.digest, offset, length)

    @pytest.mark.parametrize("digest", ["0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
    async def test_what_is_not_there_is_not_found(self, blobs: BlobStore, digest: str) -> None:
        """An unknown digest, or what is none at all, is `BlobNotFound`; no path can be made of it."""
        with pytest.raises(BlobNotFound):
            await blobs.size(digest)
        with pytest.raises(BlobNotFound):
            await _whole(blobs, digest)

    async def test_a_file_is_adopted_whole(self, blobs: BlobStore, tmp_path: Path) -> None:
        """An adopted file is a blob and no file any more; adopting it again after a crash gives the blob."""
        path = tmp_path / "output"
        path.write_bytes(BIG)
        digest = hashlib.sha256(BIG).hexdigest()
        ref = await blobs.adopt(str(path), digest, len(BIG))
        assert ref == BlobRef(digest, len(BIG))
        assert not path.exists()
        assert await _whole(blobs, digest) == BIG
        assert await blobs.adopt(str(path), digest, len(BIG)) == ref

    async def test_a_file_whose_bytes_are_known_is_adopted_too(self, blobs: BlobStore, tmp_path: Path) -> None:
        """When the blob is there already, the file goes and the blob stays."""
        ref = await blobs.put(BIG)
        path = tmp_path / "output"
        path.write_bytes(BIG)
        assert await blobs.adopt(str(path), ref.digest, ref.size) == ref
        assert not path.exists()
        assert await _whole(blobs, ref.digest) == BIG

    async def test_a_file_of_another_size_is_not_adopted(self, blobs: BlobStore, tmp_path: Path) -> None:
        """A file that is not what its digest was made of stays where it is, and no blob appears."""
        path = tmp_path / "output"
        path.write_bytes(b"short")
        digest = hashlib.sha256(BIG).hexdigest()
        with pytest.raises(StoreFailed):
            await blobs.adopt(str(path), digest, len(BIG))
        assert path.exists()
        with pytest.raises(BlobNotFound):
            await blobs.size(digest)

    async def test_a_missing_file_is_not_adopted(self, blobs: BlobStore, tmp_path: Path) -> None:
        """A file that never was cannot become a blob."""
        with pytest.raises(StoreFailed):
            await blobs.adopt(str(tmp_path / "none"), "0" * 64, 4)

    async def test_a_digest_that_is_none_is_refused(self, blobs: BlobStore, tmp_path: Path) -> None:
        """Adopting under something that is no digest is a mistake of the caller."""
        (tmp_path / "output").write_bytes(b"abc")
        with pytest.raises(ValueError, match="not a SHA-256"):
            await blobs.adopt(str(tmp_path / "output"), "../escape", 3)
