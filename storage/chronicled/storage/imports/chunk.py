"""A chunk: up to 1024 records of a source, as the events that one commit writes and the blob that keeps their bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from chronicled.events.codec import Codec, encode_json
from chronicled.events.envelope import LIFECYCLE, Draft
from chronicled.events.errors import InvalidPayload, PayloadTooLarge
from chronicled.events.kind import KindSpec, TerminalPayload
from chronicled.events.kinds.lifecycle import EventsImported
from chronicled.events.limits import PART_BYTES_MAX, PAYLOAD_BYTES_MAX
from chronicled.events.parts import blobs_of
from chronicled.migrations.conversion import OPAQUE, Converted, Course, Ids, Made
from chronicled.storage.imports.originals import original
from chronicled.storage.imports.source import Record

__all__ = [
    "CHUNK_BYTES_MAX",
    "CHUNK_KEY",
    "CHUNK_RECORDS_MAX",
    "Chunk",
    "ChunkIndex",
    "Entry",
    "Progress",
    "Weaver",
    "as_utf8",
    "chain_behind",
]

CHUNK_RECORDS_MAX: Final = 1024
"""Most records of one chunk, and so of one commit: with fewer, an import waits for the disk's syncs."""
CHUNK_BYTES_MAX: Final = 4 << 20
"""Most original bytes of one chunk, unless a single record has more."""
CHUNK_KEY: Final = "\x00chunk"
"""Key from which the ids of `events_imported` are made; no record of a source has it."""
SOURCE: Final = "import"
ACTOR: Final = "import"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one record: a line of the report, and of the index behind the originals in a chunk's blob."""

    key: str
    shape: str
    place: str = ""
    offset: int = 0
    """Where its original bytes begin in the blob."""
    size: int = 0
    time: str | None = None
    """As the source wrote it."""
    time_utc: str | None = None
    """The same read in the time zone that the import was given, RFC 3339."""
    steps: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    """Ids of the events that were made of it."""
    kinds: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """What found no place in them."""
    opaque: str | None = None
    """Why nobody could read it."""


class ChunkIndex(msgspec.Struct, frozen=True):
    """What stands behind the originals in a chunk's blob."""

    entries: list[Entry]
    state: msgspec.Raw
    """What the course remembers behind this chunk."""


class Progress(msgspec.Struct):
    """How far an import is; all of it can be read back from the log."""

    records: int = 0
    chunks: int = 0
    chain: str = ""


class Chunk(msgspec.Struct):
    """Ready to be written: first the blobs, then the drafts in one append."""

    drafts: list[Draft]
    blob: bytes
    attached: dict[str, bytes]
    entries: list[Entry]
    imported: EventsImported


class _Woven(msgspec.Struct):
    """What a chunk has so far."""

    drafts: list[Draft] = []
    attached: dict[str, bytes] = {}
    size: int = 0
    """Of all payloads."""


class Weaver:
    """Makes chunks of what a source yields. Blocks, and does all that costs: call it in a thread.

    Args:
        format: The source's format.
        codec: Encodes payloads.
        course: Converts records.
        tenant: The session's tenant.
        session: The session.
        to_utc: Reads a time of the source as UTC, or None.
    """

    def __init__(
        self,
        format: str,
        codec: Codec,
        course: Course,
        tenant: str,
        session: str,
        to_utc: Callable[[str], str | None] | None = None,
    ) -> None:
        self._opaque = f"{format}.{OPAQUE}"
        self._codec = codec
        self._course = course
        self._tenant = tenant
        self._session = session
        self._to_utc = to_utc
        self._ids = Ids(tenant, session)
        self._specs: dict[tuple[str, str], KindSpec | None] = {}

    def weave(self, records: Iterator[Record], progress: Progress) -> Chunk:
        """Take the next records and return their chunk; `complete` when there are no more. Moves `progress` on."""
        first, offset, complete = progress.records, 0, True
        taken: list[Record] = []
        entries: list[Entry] = []
        woven = _Woven()
        for number, record in enumerate(records, first):
            converted = self._course.convert(original(record, number))
            entries.append(self._take(record, converted, offset, woven))
            taken.append(record)
            offset += len(record.data)
            if len(taken) >= CHUNK_RECORDS_MAX or offset >= CHUNK_BYTES_MAX or woven.size >= CHUNK_BYTES_MAX:
                complete = False
                break
        if complete:
            end = self._course.finish()
            if end.made:
                entries.append(self._take(Record("", b""), end, offset, woven))
        drafts, originals = woven.drafts, [record.data for record in taken]
        body = b"".join(originals)
        digest = hashlib.sha256(body)
        progress.chain = link(progress.chain, taken, digest.digest())
        index = encode_json(ChunkIndex(entries, msgspec.Raw(self._course.state())))
        blob = body + index
        digest.update(index)
        times = [entry.time for entry in entries if entry.time is not None]
        imported = EventsImported(
            first=first,
            records=len(taken),
            events=len(drafts),
            opaque=sum(entry.opaque is not None for entry in entries),
            blob=digest.hexdigest(),
            originals_bytes=offset,
            chain=progress.chain,
            time_first=times[0] if times else None,
            time_last=times[-1] if times else None,
            complete=complete,
        )
        drafts.append(self._imported(imported, progress.chunks))
        progress.records += len(taken)
        progress.chunks += 1
        return Chunk(drafts, blob, woven.attached, entries, imported)

    def _imported(self, payload: EventsImported, number: int) -> Draft:
        return self._codec.draft(
            LIFECYCLE,
            "events_imported",
            payload,
            tenant=self._tenant,
            session=self._session,
            id=self._ids.of(CHUNK_KEY, number),
            source=SOURCE,
            actor=ACTOR,
            blobs=(payload.blob,),
        )

    def _take(self, record: Record, converted: Converted, offset: int, woven: _Woven) -> Entry:
        mark = len(woven.drafts)
        why: str | None = None
        lost = converted.lost
        for made in converted.made:
            try:
                woven.drafts.append(self._draft(made, woven))
            except (InvalidPayload, PayloadTooLarge) as error:
                # It is no event of ours after all; its original bytes are kept, and its action ends all the same.
                woven.drafts.append(self._draft(self._instead(made, error.detail), woven))
                if made.terminal:
                    lost = (*lost, "payload")
                else:
                    why = error.detail
            else:
                if converted.opaque and why is None and isinstance(made.payload, dict):
                    why = str(made.payload.get("reason", "opaque"))
        woven.attached.update(converted.attached)
        time = converted.time
        drafts = woven.drafts[mark:]
        return Entry(
            key=record.key,
            shape=converted.shape,
            place=as_utf8(record.place),
            offset=offset,
            size=len(record.data),
            time=time,
            time_utc=self._to_utc(time) if time is not None and self._to_utc is not None else None,
            steps=converted.steps,
            events=tuple([draft.id for draft in drafts]),
            kinds=tuple([draft.kind for draft in drafts]),
            lost=lost,
            opaque=why,
        )

    def _instead(self, made: Made, reason: str) -> Made:
        if made.terminal and isinstance(made.payload, TerminalPayload):
            short = type(made.payload)(
                outcome=made.payload.outcome, effects=made.payload.effects, reason="not_in_event", message=reason
            )
            return msgspec.structs.replace(made, payload=short)
        payload = {"reason": reason, "kind": made.kind}
        return msgspec.structs.replace(made, kind=self._opaque, payload=payload, terminal=False)

    def _draft(self, made: Made, woven: _Woven) -> Draft:
        key = (made.category, made.kind)
        try:
            spec = self._specs[key]
        except KeyError:
            spec = self._specs[key] = self._codec.registry.find_current(made.category, made.kind)
        payload: Any = made.payload
        try:
            data = encode_json(payload)
        except (UnicodeEncodeError, RecursionError, TypeError) as error:
            raise InvalidPayload(f"The payload of {made.kind} cannot be written: {error}.") from None
        blobs = made.blobs
        if len(data) > PART_BYTES_MAX and spec is not None and spec.parts:
            payload, parts = self._codec.split(self._tenant, self._session, spec, payload)
            woven.attached.update(parts)
            blobs = (*blobs, *blobs_of(payload).values())
            data = encode_json(payload)
        if len(data) > PAYLOAD_BYTES_MAX:
            raise PayloadTooLarge(
                f"The payload of {made.kind} has {len(data)} bytes; {PAYLOAD_BYTES_MAX} are allowed.",
                bytes_max=PAYLOAD_BYTES_MAX,
            )
        woven.size += len(data)
        return Draft(
            self._tenant,
            self._session,
            made.id,
            made.kind,
            1 if spec is None else spec.version,
            made.category,
            data,
            made.lane,
            SOURCE,
            made.actor,
            made.cause,
            made.terminal,
            None,
            True,
            None,
            blobs,
        )


def as_utf8(text: str) -> str:
    """Return the name of a file as text that can be stored: bytes that are not UTF-8 show as U+FFFD."""
    return text if text.isascii() else os.fsencode(text).decode("utf-8", "replace")


def chain_behind(chain: str, records: list[Record]) -> str:
    """Return the chain behind these records, by their keys, sizes and bytes."""
    return link(chain, records, hashlib.sha256(b"".join([record.data for record in records])).digest())


def link(chain: str, records: list[Record], digest: bytes) -> str:
    """Return the chain behind these records: SHA-256 over the one before, their keys, sizes and digest."""
    keys = encode_json([(record.key, len(record.data)) for record in records])
    return hashlib.sha256(b"".join((chain.encode(), keys, digest))).hexdigest()
