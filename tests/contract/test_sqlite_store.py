"""The SQLite store keeps the contract of event stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chronicled.events.store import EventStore
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing import EventStoreContract


class TestSqliteStore(EventStoreContract):
    """The log in a file."""

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[EventStore]:
        """Yield an empty store."""
        async with await SqliteStore.open(tmp_path / LOG_NAME) as store:
            yield store
