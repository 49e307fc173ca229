"""The envelope: one event as the log keeps it and as it goes over the wire."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

__all__ = ["ACTION", "CATEGORIES", "LIFECYCLE", "OBSERVATION", "Category", "Draft", "Event", "Stored"]

Category = Literal["action", "observation", "lifecycle"]
ACTION: Final[Category] = "action"
OBSERVATION: Final[Category] = "observation"
LIFECYCLE: Final[Category] = "lifecycle"

CATEGORIES: Final[tuple[Category, ...]] = (ACTION, OBSERVATION, LIFECYCLE)
"""Index + 1 is the number that the leaf header and the database use for a category; the order never changes."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """As what an event stands in the log, where it is shown as something else."""

    kind: str
    version: int


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One immutable record of the log; encoding it with `msgspec.json` gives the wire form.

    `payload` is the stored JSON, byte for byte as it was written; decode it through the codec, which migrates it.
    """

    position: int
    """Place in the whole log, dense from 1: the commit order, the only order, the only cursor."""
    tenant: str
    session: str
    sequence: int
    """Place in the session's stream, dense from 0."""
    id: str
    """UUID, canonical text: the idempotency key for the life of the log, per tenant."""
    kind: str
    version: int
    """Schema version of the payload."""
    category: Category
    lane: str
    source: str
    """What submitted it: `client`, `worker` or `daemon`; set by the daemon."""
    actor: str
    """Who submitted it, e.g. `uid:1000` or `worker:NAME`; set by the daemon."""
    time: str
    """RFC 3339 UTC with microseconds; never falls along the log."""
    payload: msgspec.Raw
    leaf: str
    """SHA-256 leaf of the log's tree, 64 hex digits; binds header and payload digest."""
    cause: str | None = None
    """The id of the action that this event belongs to."""
    traceparent: str | None = None
    """W3C trace context, where it was given."""
    stored: Stored | None = None
    """Kind and version in the log, where it is shown in others: what `leaf` binds is not the payload shown then.
    Only in what is shown."""
    opaque: str | None = None
    """Why the payload cannot be read here; it is then shown as it is stored. Only in what is shown."""

    def fields(self) -> dict[str, Any]:
        """Return the payload as plain JSON values; nothing where it is no JSON object.

        Of large parts it holds the heads: `Session.payload` of the client brings them whole.
        """
        try:
            return msgspec.json.decode(self.payload, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}


class Draft(msgspec.Struct, frozen=True, gc=False):
    """An event that wants to be appended; position, sequence, time and leaf are the writer's to give."""

    tenant: str
    session: str
    id: str
    kind: str
    version: int
    category: Category
    payload: bytes
    """Encoded JSON, already redacted and within the size limit."""
    lane: str = "main"
    source: str = "daemon"
    actor: str = "daemon"
    cause: str | None = None
    terminal: bool = False
    """True for the observation that ends `cause`; the log admits one."""
    request: bytes | None = None
    """Keyed digest (32 bytes) of the client's canonical request; None for what no client submitted."""
    fresh: bool = False
    """True when `id` was made here just now, so that the writer need not look it up."""
    traceparent: str | None = None
    blobs: tuple[str, ...] = ()
    """Digests (SHA-256, hex) of the blobs that the payload names; they are reached through this event's session."""
