"""JSON Lines of our own: the events as stored, with what a verifier needs, so that it need not trust us.

The first line (`begin`) says which session of which log, behind which position, and the leaf of the event before. Each
`event` line has an event as it goes over the wire, and what else its leaf binds: `terminal`, `request`, and `salt` (or,
for bytes that are not the stored ones, `payload_digest`). A payload that is no JSON is a string of base64 (`base64`).
The last line (`end`) counts. With blobs, each stands before the first event that names it, in `blob` lines of at most
192 KiB, in base64.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from chronicled.events.errors import BlobNotFound
from chronicled.migrations.formats.chronicle import Chronicle, Item, Tally

__all__ = ["FORMAT", "VERSION", "write", "write_with_blobs"]

FORMAT: Final = "chronicled.events"
VERSION: Final = 1
BLOB_LINE_BYTES: Final = 192 << 10

_encode = msgspec.json.Encoder().encode


def write(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield the lines, without blobs."""
    yield from _write(chronicle, tally, blobs=False)


def write_with_blobs(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield the lines, with the bytes of every blob that an event names."""
    yield from _write(chronicle, tally, blobs=True)


def _write(chronicle: Chronicle, tally: Tally, *, blobs: bool) -> Iterator[bytes]:
    begin = {
        "type": "begin",
        "format": FORMAT,
        "version": VERSION,
        "tenant": chronicle.tenant,
        "session": chronicle.session,
        "incarnation": chronicle.incarnation,
        "after": chronicle.after,
        "head": chronicle.head,
        "previous": chronicle.previous,
    }
    yield _encode(begin) + b"\n"
    named = chronicle.blobs() if blobs else iter(())
    coming = next(named, None)
    leaf = chronicle.previous
    for item in chronicle.items():
        tally.take(item)
        while coming is not None and coming[0] <= item.event.position:
            yield from _blob(chronicle, tally, coming[1])
            coming = next(named, None)
        tally.written += 1
        leaf = item.event.leaf
        yield line_of(item)
    end = {"type": "end", "events": tally.events, "leaf": leaf, "opaque": tally.opaque, "redacted": tally.redacted}
    yield _encode(end) + b"\n"


def line_of(item: Item) -> bytes:
    """Return an event's line."""
    if not item.is_json:
        return _line_of_bytes(item)
    found = {"type": "event", "event": item.event, "terminal": item.terminal}
    for name in ("request", "salt", "payload_digest"):
        if (value := getattr(item, name)) is not None:
            found[name] = value
    for name in ("redacted", "erased"):
        if getattr(item, name):
            found[name] = True
    return _encode(found) + b"\n"


def _line_of_bytes(item: Item) -> bytes:
    payload = bytes(item.event.payload)
    digest = item.payload_digest
    if digest is None:
        digest = hashlib.sha256(bytes.fromhex(item.salt or "") + payload).hexdigest()
    event = msgspec.structs.replace(item.event, payload=msgspec.Raw(_encode(base64.b64encode(payload).decode())))
    found = {"type": "event", "event": event, "terminal": item.terminal, "payload_digest": digest, "base64": True}
    if item.request is not None:
        found["request"] = item.request
    if item.redacted:
        found["redacted"] = True
    return _encode(found) + b"\n"


def _blob(chronicle: Chronicle, tally: Tally, digest: str) -> Iterator[bytes]:
    offset, held = 0, bytearray()
    try:
        for chunk in chronicle.blob(digest):
            held += chunk
            while len(held) >= BLOB_LINE_BYTES:
                yield _blob_line(digest, offset, bytes(held[:BLOB_LINE_BYTES]), last=False)
                del held[:BLOB_LINE_BYTES]
                offset += BLOB_LINE_BYTES
    except BlobNotFound:
        tally.missing_blobs += 1
        yield _encode({"type": "blob", "blob": digest, "missing": True}) + b"\n"
        return
    yield _blob_line(digest, offset, bytes(held), last=True)


def _blob_line(digest: str, offset: int, data: bytes, *, last: bool) -> bytes:
    text = base64.b64encode(data).decode()
    return _encode({"type": "blob", "blob": digest, "offset": offset, "data": text, "last": last}) + b"\n"
