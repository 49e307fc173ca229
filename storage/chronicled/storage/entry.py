"""A request on its way to the writer: checked and packed in its caller's task, so that a malformed one fails alone."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from chronicled.events.envelope import Draft
from chronicled.events.errors import InvalidRequest, PayloadTooLarge
from chronicled.events.ids import id_bytes, id_text
from chronicled.events.limits import QUEUE_BYTES_MAX, QUEUE_EVENTS_MAX
from chronicled.events.store import Append, Appended
from chronicled.storage.leaf import pack_texts

__all__ = ["ActionKey", "Entry", "SessionKey"]

SessionKey = tuple[str, str]
"""Tenant and session."""
ActionKey = tuple[str, bytes]
"""Tenant and id of an event."""

# Sessions submit the same kinds over and over: packing their names once saves a microsecond an event.
_texts = lru_cache(maxsize=4096)(pack_texts)


@lru_cache(maxsize=4096)
def _canonical(text: str) -> bytes:
    try:
        raw = id_bytes(text)
    except (ValueError, AttributeError):
        raw = b""
    if len(raw) != 16 or id_text(raw) != text:
        raise InvalidRequest(f"An event id must be a UUID in canonical form, not {text!r:.70}.")
    return raw


def _digest(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise InvalidRequest(f"A blob is named by its SHA-256 in hex, not {text!r:.70}.")
    return raw


class Entry:
    """One `Append` that waits for its commit.

    Raises:
        InvalidRequest: no drafts, more than the queue holds, an id twice, a fence over several sessions, a terminal
            draft without a cause, or a field that the log cannot hold.
        PayloadTooLarge: its payloads together are more than the queue holds.
    """

    __slots__ = ("actions", "causes", "future", "home", "ids", "keys", "opens", "request", "size", "texts", "unsure")

    def __init__(self, request: Append, future: asyncio.Future[Appended]) -> None:
        drafts = request.drafts
        if not drafts or len(drafts) > QUEUE_EVENTS_MAX:
            raise InvalidRequest(f"An append has 1 to {QUEUE_EVENTS_MAX} events, not {len(drafts)}.")
        self.request = request
        self.future = future
        self.ids: list[bytes] = []
        self.causes: list[bytes | None] = []
        self.texts: list[bytes] = []
        self.home: SessionKey = (drafts[0].tenant, drafts[0].session)
        """The session that the preconditions are about."""
        self.keys: set[SessionKey] = {self.home}
        self.unsure: list[ActionKey] | tuple[()] = ()
        """Ids that may be known already."""
        self.opens: list[ActionKey] | tuple[()] = ()
        """Actions that must be open; `actions` has those which this request ends too."""
        self.actions: list[ActionKey] | tuple[()] = ()
        self.size = 0
        for draft in drafts:
            self._add(draft)
        if len(drafts) > 1:
            if len(set(zip((draft.tenant for draft in drafts), self.ids, strict=True))) < len(drafts):
                raise InvalidRequest("An append has the same event id twice.")
            if request.fence is not None and len(self.keys) > 1:
                raise InvalidRequest("An append under a fence writes to one session.")
        if self.size > QUEUE_BYTES_MAX:
            raise PayloadTooLarge(f"An append has {self.size} bytes; {QUEUE_BYTES_MAX} are allowed.")
        if request.open_actions:
            self.opens = [(self.home[0], _canonical(id)) for id in request.open_actions]
            self.actions = [*self.actions, *self.opens]

    def _add(self, draft: Draft) -> None:
        tenant = draft.tenant
        if draft.fresh:
            raw = id_bytes(draft.id)
        else:
            raw = _canonical(draft.id)
            self.unsure = [*self.unsure, (tenant, raw)]
        cause = draft.cause
        raw_cause = None if cause is None else _canonical(cause)
        if draft.terminal:
            if raw_cause is None:
                raise InvalidRequest(f"The terminal observation {draft.kind} names no action.")
            self.actions = [*self.actions, (tenant, raw_cause)]
        if draft.request is not None and len(draft.request) != 32:
            raise InvalidRequest("The digest of a request has 32 bytes.")
        try:
            self.texts.append(_texts(tenant, draft.session, draft.kind, draft.lane, draft.source, draft.actor))
            if draft.traceparent is not None:
                pack_texts(draft.traceparent)
        except ValueError as error:
            raise InvalidRequest(f"The log cannot hold a name of this event: {error}.") from None
        self.ids.append(raw)
        self.causes.append(raw_cause)
        if (key := (tenant, draft.session)) != self.home:
            self.keys.add(key)
        self.size += len(draft.payload)
        for blob in draft.blobs:
            _digest(blob)

    @property
    def privileged(self) -> bool:
        """Whether it may use the reserve of a full disk: it only ends actions or tells what has happened."""
        return all(draft.terminal or draft.category == "lifecycle" for draft in self.request.drafts) and not any(
            draft.source == "client" for draft in self.request.drafts
        )
