"""Drafts for tests of stores and streams: small, valid, and different from each other where it matters."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Draft
from chronicled.events.ids import SystemIds
from chronicled.events.store import Append

__all__ = ["DraftMaker"]


class DraftMaker:
    """Makes drafts of one tenant."""

    def __init__(self, tenant: str = "default") -> None:
        self.tenant = tenant
        self.ids = SystemIds()

    def draft(self, session: str, kind: str, category: Any, payload: bytes = b"{}", **changes: Any) -> Draft:
        """Return a draft with a fresh id."""
        return replace(Draft(self.tenant, session, self.ids.new(), kind, 1, category, payload, fresh=True), **changes)

    def created(self, session: str, **changes: Any) -> Draft:
        """Return the first event of a session."""
        return self.draft(session, "session_created", LIFECYCLE, b'{"runtime":"process"}', **changes)

    def closed(self, session: str, **changes: Any) -> Draft:
        """Return the event that closes a session."""
        return self.draft(session, "session_closed", LIFECYCLE, b'{"reason":"client"}', **changes)

    def claimed(self, session: str, **changes: Any) -> Draft:
        """Return a worker's claim."""
        return self.draft(
            session, "session_claimed", LIFECYCLE, b'{"worker":"w","boot_id":"b"}', source="worker", **changes
        )

    def action(self, session: str, command: str = "true", **changes: Any) -> Draft:
        """Return an action that a client submits."""
        payload = b'{"command":"%b"}' % command.encode()
        return self.draft(session, "run", ACTION, payload, **{"source": "client", "actor": "uid:1000", **changes})

    def progress(self, session: str, action: str, **changes: Any) -> Draft:
        """Return a progress observation of the action of that id."""
        return self.draft(
            session, "progress", OBSERVATION, b'{"output":"."}', **{"source": "worker", "cause": action, **changes}
        )

    def terminal(self, session: str, action: str, **changes: Any) -> Draft:
        """Return the observation that ends the action of that id."""
        fields: dict[str, Any] = {"source": "worker", "cause": action, "terminal": True, **changes}
        return self.draft(session, "run", OBSERVATION, b'{"outcome":"ok","effects":"complete"}', **fields)

    def create(self, session: str) -> Append:
        """Return the request that creates a session."""
        return Append((self.created(session),), create=True)
