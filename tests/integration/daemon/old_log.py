"""Logs that another version of the daemon left behind: written into a data directory while nobody serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tests.integration.daemon.process import DaemonProcess

from chronicled.daemon.instance import load_instance
from chronicled.events import Append, Event
from chronicled.events.codec import canonical_request
from chronicled.events.envelope import Category, Draft
from chronicled.events.ids import SystemIds, id_of_key
from chronicled.events.kinds import former
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

__all__ = ["Era"]

IDS = SystemIds()


class Era:
    """Writes what a daemon of another version would have written, in one session.

    Args:
        daemon: Whose data directory; it was started once and is stopped now.
        session: The session.
    """

    def __init__(self, daemon: DaemonProcess, session: str) -> None:
        self._data: Path = daemon.data
        self._session = session
        self._drafts: list[Draft] = []
        self._key = load_instance(str(daemon.data), fresh=False).request_key

    def event(
        self, category: Category, kind: str, version: int, payload: bytes, *, cause: str | None = None, **more: Any
    ) -> str:
        """Note an event, and return its id."""
        id: str = more.pop("id", None) or IDS.new()
        self._drafts.append(Draft("default", self._session, id, kind, version, category, payload, cause=cause, **more))
        return id

    def created(self) -> str:
        """Note the session's beginning, as version 1 has it."""
        return self.event("lifecycle", "session_created", 1, b'{"runtime":"process"}')

    def created_by(self, key: str) -> str:
        """Note the session's beginning, as version 1 has it, asked for by a client under an idempotency key."""
        payload = former.SessionCreated(runtime="process", labels={"a": "b"})
        request = canonical_request(self._key, self._session, "session_created", 1, payload, "main", None)
        id = id_of_key("default", self._session, key, 0)
        data = msgspec.json.encode(payload)
        return self.event("lifecycle", "session_created", 1, data, id=id, source="client", request=request)

    def run(self, command: str, key: str | None = None) -> str:
        """Note a `run` of version 1 that a client submitted, with an id or under a key, and return its id."""
        payload = former.Run(command=command)
        request = canonical_request(self._key, self._session, "run", 1, payload, "main", None)
        data = msgspec.json.encode(payload)
        id = None if key is None else id_of_key("default", self._session, key, 0)
        return self.event("action", "run", 1, data, source="client", actor="uid:0", request=request, id=id)

    def ended(self, action: str, kind: str = "run") -> str:
        """Note the action's end."""
        payload = b'{"outcome":"ok","effects":"complete"}'
        return self.event("observation", kind, 1, payload, cause=action, terminal=True, source="worker")

    async def write(self) -> tuple[Event, ...]:
        """Append all that was noted, in one commit."""
        async with await SqliteStore.open(self._data / LOG_NAME) as store:
            first, *rest = self._drafts
            begun = await store.append(Append((first,), create=first.kind == "session_created"))
            if not rest:
                return begun.events
            return begun.events + (await store.append(Append(tuple(rest)))).events
