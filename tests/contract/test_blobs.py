"""Both blob stores keep the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from chronicled.events.blobs import BlobStore
from chronicled.storage.blobs import FileBlobStore
from chronicled.storage.disk import SystemDisk
from chronicled.storage.memory_blobs import MemoryBlobStore
from chronicled.storage.testing_blobs import BlobStoreContract


class TestFile(BlobStoreContract):
    """Blobs as files."""

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobStore:
        """Return an empty store."""
        return FileBlobStore(str(tmp_path / "blobs"), SystemDisk())


class TestMemory(BlobStoreContract):
    """Blobs in memory."""

    @pytest.fixture
    def blobs(self) -> BlobStore:
        """Return an empty store."""
        return MemoryBlobStore()
