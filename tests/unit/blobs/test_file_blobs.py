"""What blobs as files promise beyond the contract: order of syncs, a full disk, what a crash leaves."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.storage.watched_disk import WatchedDisk

from chronicled.events.errors import BlobNotFound, StorageFull, StoreFailed
from chronicled.storage.blobs import FileBlobStore
from chronicled.storage.disk import SystemDisk

DATA = b"some bytes" * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


def opened(tmp_path: Path, disk: WatchedDisk) -> FileBlobStore:
    """Return a store whose calls from here on are noted."""
    store = FileBlobStore(str(tmp_path / "blobs"), disk)
    disk.calls.clear()
    return store


def files(tmp_path: Path) -> list[str]:
    """Return every file that the store has."""
    return sorted(path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file())


async def test_a_blob_is_synced_before_it_has_its_name_and_its_name_before_it_is_told(tmp_path: Path) -> None:
    """The order is: bytes, sync, folder's own entry, rename, entry; anything else can be torn by a power cut."""
    disk = WatchedDisk()
    await opened(tmp_path, disk).put(DATA)
    folder = f"sync_directory {DIGEST[:2]}"
    assert disk.calls == ["open", "write", "sync", "sync_directory blobs", "replace", folder]


async def test_a_known_blob_is_told_only_after_its_name_was_synced(tmp_path: Path) -> None:
    """A repeat may meet a name that another put has renamed and not yet synced, so it syncs the entry itself."""
    disk = WatchedDisk()
    store = opened(tmp_path, disk)
    await store.put(DATA)
    disk.calls.clear()
    await store.put(DATA)
    assert disk.calls == [f"sync_directory {DIGEST[:2]}"]


async def test_an_adopted_file_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    """The bytes of an output file are on the medium before they are a blob."""
    disk = WatchedDisk()
    store = opened(tmp_path, disk)
    (tmp_path / "output").write_bytes(DATA)
    await store.adopt(str(tmp_path / "output"), DIGEST, len(DATA))
    assert disk.calls == ["open", "sync", "sync_directory blobs", "replace", f"sync_directory {DIGEST[:2]}"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
async def test_a_full_disk_is_told_as_such_and_leaves_nothing_behind(tmp_path: Path, call: int, error: int) -> None:
    """No room at any step is `StorageFull`, no file is left, and the same put succeeds once there is room."""
    disk = WatchedDisk()
    store = opened(tmp_path, disk)
    disk.fail_at, disk.error = call, error
    with pytest.raises(StorageFull):
        await store.put(DATA)
    assert files(tmp_path) == []
    disk.fail_at = None
    assert (await store.put(DATA)).digest == DIGEST


async def pieces() -> AsyncIterator[bytes]:
    """Yield the data in two pieces."""
    yield DATA[:3]
    yield DATA[3:]


async def test_a_received_blob_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    """What comes in pieces is on the medium, name and all, before anybody is told."""
    disk = WatchedDisk()
    assert (await opened(tmp_path, disk).receive(pieces(), 1 << 20)).digest == DIGEST
    folder = f"sync_directory {DIGEST[:2]}"
    assert disk.calls == ["open", "write", "open", "sync", "sync_directory blobs", "replace", folder]


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
async def test_a_full_disk_leaves_nothing_of_what_was_received(tmp_path: Path, call: int) -> None:
    """No room at any step is `StorageFull`, no file is left, and the same can be received once there is room."""
    disk = WatchedDisk()
    store = opened(tmp_path, disk)
    disk.fail_at, disk.error = call, errno.ENOSPC
    with pytest.raises(StorageFull):
        await store.receive(pieces(), 1 << 20)
    assert files(tmp_path) == []
    disk.fail_at = None
    assert (await store.receive(pieces(), 1 << 20)).digest == DIGEST


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
async def test_any_other_failure_is_told_and_never_acked(tmp_path: Path, call: int) -> None:
    """A failed write, sync or rename is `StoreFailed`: what is on the medium is not known."""
    disk = WatchedDisk()
    store = opened(tmp_path, disk)
    disk.fail_at = call
    with pytest.raises(StoreFailed):
        await store.put(DATA)
    assert not list((tmp_path / "blobs" / "incoming").iterdir())


async def test_what_a_crash_left_half_written_is_gone_at_the_next_start(tmp_path: Path) -> None:
    """Files without a name yet are removed at a start, and named blobs stay."""
    await FileBlobStore(str(tmp_path / "blobs"), SystemDisk()).put(DATA)
    (tmp_path / "blobs" / "incoming" / "abc").write_bytes(b"half")
    store = FileBlobStore(str(tmp_path / "blobs"), SystemDisk())
    assert files(tmp_path) == [DIGEST]
    assert await store.size(DIGEST) == len(DATA)


async def test_a_blob_that_was_cut_short_is_replaced_by_good_bytes(tmp_path: Path) -> None:
    """A file of another size under a digest is damage; putting the bytes again heals it."""
    store = FileBlobStore(str(tmp_path / "blobs"), SystemDisk())
    await store.put(DATA)
    path = tmp_path / "blobs" / DIGEST[:2] / DIGEST
    path.write_bytes(DATA[:10])
    await store.put(DATA)
    assert path.read_bytes() == DATA


async def test_a_link_is_not_adopted(tmp_path: Path) -> None:
    """A symbolic link in place of an output file does not pull another file into the store."""
    (tmp_path / "secret").write_bytes(DATA)
    (tmp_path / "output").symlink_to(tmp_path / "secret")
    store = FileBlobStore(str(tmp_path / "blobs"), SystemDisk())
    with pytest.raises(StoreFailed):
        await store.adopt(str(tmp_path / "output"), DIGEST, len(DATA))
    with pytest.raises(BlobNotFound):
        await store.size(DIGEST)


async def test_only_the_owner_can_read_blobs(tmp_path: Path) -> None:
    """Directories are 0700 and files 0600."""
    await FileBlobStore(str(tmp_path / "blobs"), SystemDisk()).put(DATA)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "blobs").rglob("*")}
    assert modes == {0o700, 0o600}
