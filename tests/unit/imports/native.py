"""A session that a client made."""

from __future__ import annotations

from tests.unit.imports.conversations import CODEC

from chronicled.events.ids import SystemIds
from chronicled.events.kinds.lifecycle import SessionCreated
from chronicled.events.store import Append, EventStore


async def create(store: EventStore, session: str) -> None:
    """Create the session."""
    draft = CODEC.draft(
        "lifecycle",
        "session_created",
        SessionCreated(runtime="process"),
        tenant="default",
        session=session,
        id=SystemIds().new(),
    )
    await store.append(Append((draft,), create=True))
