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

__all__ = ["ActionKey", "Entry", "Item", "SessionKey"]

SessionKey = tuple[str, str]
"""Tenant and session."""
ActionKey = tuple[str, bytes]
"""Tenant and id of an event."""

Item = tuple[Draft, ActionKey, bytes | None, bytes]
"""A draft, its id's key, its cause, and its packed texts."""

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

    __slots__ = ("actions", "future", "home", "items", "opens", "others", "plain", "request", "size", "unsure")

    def __init__(self, request: Append, future: asyncio.Future[Appended]) -> None:
        drafts = request.drafts
        if not drafts or len(drafts) > QUEUE_EVENTS_MAX:
            raise InvalidRequest(f"An append has 1 to {QUEUE_EVENTS_MAX} events, not {len(drafts)}.")
        self.request = request
        self.future = future
        self.items: list[Item] = []
        self.home: SessionKey = (drafts[0].tenant, drafts[0].session)
        """The session that the preconditions are about."""
        self.others: tuple[SessionKey, ...] = ()
        """Other sessions that are written to."""
        self.unsure: tuple[ActionKey, ...] = ()
        """Ids that may be known already."""
        self.opens: tuple[ActionKey, ...] = ()
        """Actions that must be open; `actions` has those which this request ends too."""
        self.actions: tuple[ActionKey, ...] = ()
        self.size = 0
        for draft in drafts:
            self._add(draft)
        self.plain = (
            request.fence is None
            and request.expected_sequence is None
            and len(drafts) == 1
            and not (request.create or request.open_actions or self.actions)
        )
        """Whether it is one event with no precondition but that its session is there and open."""
        if len(drafts) > 1:
            if len({key for _, key, _, _ in self.items}) < len(drafts):
                raise InvalidRequest("An append has the same event id twice.")
            if request.fence is not None and self.others:
                raise InvalidRequest("An append under a fence writes to one session.")
        if self.size > QUEUE_BYTES_MAX:
            raise PayloadTooLarge(f"An append has {self.size} bytes; {QUEUE_BYTES_MAX} are allowed.")
        if request.open_actions:
            self.opens = tuple((self.home[0], _canonical(id)) for id in request.open_actions)
            self.actions += self.opens

    def _add(self, draft: Draft) -> None:
        tenant = draft.tenant
        if draft.fresh:
            key = (tenant, id_bytes(draft.id))
        else:
            key = (tenant, _canonical(draft.id))
            self.unsure += (key,)
        cause = None if draft.cause is None else _canonical(draft.cause)
        if draft.terminal:
            if cause is None:
                raise InvalidRequest(f"The terminal observation {draft.kind} names no action.")
            self.actions += ((tenant, cause),)
        if draft.request is not None and len(draft.request) != 32:
            raise InvalidRequest("The digest of a request has 32 bytes.")
        try:
            texts = _texts(tenant, draft.session, draft.kind, draft.lane, draft.source, draft.actor)
            if draft.traceparent is not None:
                pack_texts(draft.traceparent)
        except ValueError as error:
            raise InvalidRequest(f"The log cannot hold a name of this event: {error}.") from None
        self.items.append((draft, key, cause, texts))
        if self.items[0][0] is not draft:
            session = (tenant, draft.session)
            if session != self.home and session not in self.others:
                self.others += (session,)
        self.size += len(draft.payload)
        for blob in draft.blobs:
            _digest(blob)

    @property
    def privileged(self) -> bool:
        """Whether it may use the reserve of a full disk: it only ends actions or tells what has happened."""
        return all(draft.terminal or draft.category == "lifecycle" for draft in self.request.drafts) and not any(
            draft.source == "client" for draft in self.request.drafts
        )
