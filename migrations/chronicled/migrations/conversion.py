"""How another system's records become our events: the pure half of an import; `chronicled.storage` does the rest.

A `Conversion` knows one foreign format. For each session it begins a `Course`, which takes the source's records in
order and says of each what events it makes, from which shape, by which steps, and what of it found no place. What a
course remembers from record to record is small and can be written down: so an import goes on where it was interrupted.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Final, Protocol

import msgspec

from chronicled.events.envelope import Category
from chronicled.events.ids import id_text

__all__ = ["OPAQUE", "Conversion", "Converted", "Course", "Ids", "Made", "Original"]

IMPORT_NAMESPACE: Final = uuid.UUID("0d1f6a5e-3c55-5b0e-8d0a-6f4f6b1d2c97")
"""Fixed for ever: changing it would import everything that was imported a second time."""
OPAQUE: Final = "opaque"
"""Last word of the kind under which what nobody could read is kept: `FORMAT.opaque`. No registry ever knows it."""


class Original(msgspec.Struct, frozen=True, gc=False):
    """One record of a source, as a course sees it."""

    number: int
    """Place in the source, from 0."""
    key: str
    """What the source itself calls the record, e.g. its event id; unique in the source and the same for ever."""
    value: Any = None
    """The record as plain JSON values; None where it could not be decoded."""
    problem: str | None = None
    """Why it could not be decoded."""


class Made(msgspec.Struct, frozen=True, gc=False):
    """One event to be."""

    id: str
    category: Category
    kind: str
    payload: msgspec.Struct | dict[str, Any]
    """The struct of the kind's current version; plain values for a kind that no registry knows."""
    cause: str | None = None
    terminal: bool = False
    actor: str = "import"
    lane: str = "main"
    blobs: tuple[str, ...] = ()
    """Digests of the blobs that the payload names beside its parts; their bytes are in `Converted.attached`."""


class Converted(msgspec.Struct, gc=False):
    """What became of one record."""

    shape: str
    """From which shape it was read, e.g. `event run, before 0.19.0`."""
    made: tuple[Made, ...] = ()
    steps: tuple[str, ...] = ()
    """Names of the steps that brought it to the newest shape of its format, in order."""
    lost: tuple[str, ...] = ()
    """What found no place in the events made of it, as paths into the record; the original bytes have it."""
    time: str | None = None
    """When it happened, as the source wrote it."""
    opaque: bool = False
    """Nobody could read it."""
    attached: dict[str, bytes] = {}
    """Bytes of blobs that the events name, by digest: stored before the events."""


class Course(Protocol):
    """The conversion of one session's records, in order.

    No I/O, no clock, no randomness: the same records and state make the same events for ever.
    """

    def convert(self, record: Original) -> Converted:
        """Return what the next record becomes. Total: what cannot be read becomes an opaque event, never an error."""
        ...

    def finish(self) -> Converted:
        """Return what the end of the source brings: an end for each runnable action that the source shows none for.

        The course can go on after it, when the source has grown.
        """
        ...

    def state(self) -> bytes:
        """Return what it remembers, as JSON of bounded size."""
        ...


class Conversion(Protocol):
    """One foreign format."""

    format: str
    """Lower case, dotted, e.g. `openhands.v0`."""

    def course(self, tenant: str, session: str, state: bytes | None = None) -> Course:
        """Begin the conversion of one session, or go on from a `Course.state`."""
        ...


class Ids:
    """Ids of imported events: UUIDv5 of the tenant, the session, the record's key and the event's part of the record.

    So a record gives the same events whenever it is imported, and a cause can be named before it is looked at.
    """

    def __init__(self, tenant: str, session: str) -> None:
        self._base = hashlib.sha1(IMPORT_NAMESPACE.bytes + f"{tenant}\n{session}\n".encode(), usedforsecurity=False)

    def of(self, key: str, part: int = 0) -> str:
        """Return the id of the record's `part`-th event."""
        digest = self._base.copy()
        digest.update(f"{part}\n{key}".encode())
        raw = bytearray(digest.digest()[:16])
        raw[6] = raw[6] & 0x0F | 0x50
        raw[8] = raw[8] & 0x3F | 0x80
        return id_text(bytes(raw))
