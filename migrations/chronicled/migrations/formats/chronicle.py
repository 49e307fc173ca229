"""What a writer of a format is given: one session as it stood at one position, and a tally of what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from chronicled.events.codec import Opaque
from chronicled.events.envelope import Event

__all__ = ["Chronicle", "Item", "Origin", "Tally", "Writer"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
LEFT_OUT_KINDS_MAX: Final = 1000

_raw = msgspec.json.Decoder(msgspec.Raw)


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where an imported event comes from: the record of another system's log that it was made of."""

    format: str
    """As in `session_imported`, e.g. `openhands.v0`."""
    key: str
    """What the source calls the record; empty for what its end brought."""
    shape: str
    time: str | None
    """When it happened, as the source wrote it."""
    time_utc: str | None
    """The same as UTC, where the import was told how to read it."""
    lost: tuple[str, ...]
    """What of the record found no place in the events, as paths."""
    blob: str
    """Digest of the blob that holds the record's original bytes."""
    offset: int
    size: int


class Item(msgspec.Struct, frozen=True, gc=False):
    """One event, as a writer sees it."""

    event: Event
    """Its payload is the stored JSON, redacted once more."""
    payload: Any
    """The payload as its kind's current struct, or `Opaque`."""
    terminal: bool = False
    """Whether it ends the action that it names."""
    request: str | None = None
    """Keyed digest of the client's request, hex, which the leaf binds."""
    salt: str | None = None
    """Hex; with it the stored bytes give the payload's digest. None where the bytes here are not the stored ones."""
    payload_digest: str | None = None
    """Hex; what the leaf binds in place of a payload that was erased or is shown redacted."""
    redacted: bool = False
    """A secret that was registered later than the event was stored has been replaced."""
    erased: bool = False
    origin: Origin | None = None
    """Of an event that was imported."""

    @property
    def time(self) -> str:
        """When it happened, ISO 8601: in UTC, or in the zone that the source of an imported event was written in."""
        if self.origin is not None:
            for text in (self.origin.time_utc, self.origin.time):
                if text is not None and _moment(text) is not None:
                    return text
        return self.event.time

    @property
    def micros(self) -> int:
        """The same as microseconds since 1970; a time without a zone is read as UTC."""
        moment = _moment(self.time)
        return 0 if moment is None else (moment - EPOCH) // MICROSECOND

    @property
    def opaque(self) -> bool:
        """Whether the payload cannot be read here."""
        return isinstance(self.payload, Opaque)

    @property
    def is_json(self) -> bool:
        """Whether the payload is JSON that can stand in a line: what cannot be read here may be any bytes."""
        payload = bytes(self.event.payload)
        if isinstance(self.payload, Opaque):
            try:
                _raw.decode(payload)
                payload.decode()
            except (ValueError, RecursionError):
                return False
        return b"\n" not in payload and b"\r" not in payload


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        # What another system wrote as a time may be anything.
        return None
    return found if found >= EPOCH else None


class Chronicle(Protocol):
    """One session of the log, up to a position; it does not change while it is read, though the log may grow.

    Everything may raise `SecretsUnavailable` (the session's secrets cannot be read, so nothing of it is shown) and
    `LogCorrupt`.
    """

    @property
    def tenant(self) -> str:
        """The session's tenant."""
        ...

    @property
    def session(self) -> str:
        """The session's name."""
        ...

    @property
    def incarnation(self) -> str:
        """The log's incarnation."""
        ...

    @property
    def after(self) -> int:
        """The position behind which it begins."""
        ...

    @property
    def head(self) -> int:
        """The position at which it ends."""
        ...

    @property
    def previous(self) -> str:
        """Leaf (hex) of the session's last event up to `after`; zeros where there is none."""
        ...

    def items(self, lane: str | None = None) -> Iterator[Item]:
        """Yield the events behind `after` in order, of all lanes or of one; read page by page."""
        ...

    def lanes(self) -> tuple[str, ...]:
        """Return the lanes that the session's events name, in alphabetical order."""
        ...

    def find(self, id: str) -> Item | None:
        """Return the session's event of that id up to `head`, or None; events before `after` count too."""
        ...

    def ending(self, action: str) -> Item | None:
        """Return the terminal observation of that action up to `head`, or None while it has none."""
        ...

    def blobs(self) -> Iterator[tuple[int, str]]:
        """Yield each blob that the events behind `after` name for the session's first time: position and digest."""
        ...

    def original(self, origin: Origin) -> bytes | None:
        """Return the original bytes of the record that an event was made of, redacted; None where they are gone."""
        ...

    def blob(self, digest: str) -> Iterator[bytes]:
        """Yield the bytes of a blob that the session names, redacted once more, in chunks of bounded size.

        Raises:
            BlobNotFound: it is not there (any more), or no event of the session names it.
        """
        ...


class Tally(msgspec.Struct):
    """What became of a session's events: nothing is left out without being counted."""

    format: str
    session: str
    head: int
    """The position up to which the session was read."""
    events: int = 0
    """Events that were read."""
    written: int = 0
    """Records of the format that were written."""
    opaque: int = 0
    """Events that cannot be read here; each format says in what form it has them."""
    erased: int = 0
    """Events whose payload was erased."""
    redacted: int = 0
    """Events in which a secret was replaced that the log still shows."""
    running: int = 0
    """Actions that had no end yet."""
    missing_blobs: int = 0
    """Blobs that are not there any more; their events show the head that stands in them."""
    left_out: dict[str, int] = {}
    """Events that the format has no place for, by kind."""

    def take(self, item: Item) -> None:
        """Count an event that was read."""
        self.events += 1
        self.erased += item.erased
        self.redacted += item.redacted
        self.opaque += item.opaque and not item.erased

    def leave_out(self, kind: str) -> None:
        """Count an event that the format has no place for."""
        if kind not in self.left_out and len(self.left_out) >= LEFT_OUT_KINDS_MAX:
            kind = "others"
        self.left_out[kind] = self.left_out.get(kind, 0) + 1


class Writer(Protocol):
    """One format. Yields the whole in pieces of bounded size, reading the chronicle as it goes."""

    def __call__(self, chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
        """Yield the bytes of the export and count in `tally`; raises what the chronicle raises."""
        ...
