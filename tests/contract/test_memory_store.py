"""The memory store keeps the contract of event stores."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chronicled.events.store import EventStore
from chronicled.storage.memory import MemoryStore
from chronicled.storage.testing import EventStoreContract


class TestMemoryStore(EventStoreContract):
    """The log in memory."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[EventStore]:
        """Yield an empty store."""
        async with await MemoryStore.open() as store:
            yield store
