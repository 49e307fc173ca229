"""The leaf of an event: what binds its header and its payload into the log's tree.

    leaf           = SHA-256(0x00 || header || payload_digest)
    payload_digest = SHA-256(salt || stored bytes)

The salt lets a payload be erased for good: without it, nobody can test guesses against the digest that stays.
The header, version 1, big-endian, every field always there (zeros where the event has none, as its flag says):

    offset  bytes  field
         0      1  header version, 1
         1      8  position
         9      8  sequence
        17      8  time, microseconds since 1970
        25      4  payload schema version
        29      1  category: 1 action, 2 observation, 3 lifecycle
        30      1  flags: 1 cause, 2 terminal, 4 request digest, 8 traceparent
        31     16  id
        47     16  cause
        63     32  digest of the client's request
        95     32  leaf of the session's previous event, zeros for its first
       127         tenant, session, kind, lane, source, actor, traceparent: each 2 bytes of length, then UTF-8

It changes only by a new header version beside this one; the test vectors stand in tests/unit/storage/test_leaf.py.
"""

from __future__ import annotations

from hashlib import sha256
from struct import Struct
from typing import Final

__all__ = [
    "HAS_CAUSE",
    "HAS_REQUEST",
    "HAS_TRACEPARENT",
    "HEADER_VERSION",
    "IS_TERMINAL",
    "NO_DIGEST",
    "NO_ID",
    "event_leaf",
    "header",
    "leaf_hash",
    "pack_texts",
    "payload_digest",
]

HEADER_VERSION: Final = 1
HAS_CAUSE: Final = 1
IS_TERMINAL: Final = 2
HAS_REQUEST: Final = 4
HAS_TRACEPARENT: Final = 8
NO_ID: Final = bytes(16)
NO_DIGEST: Final = bytes(32)

_FIXED: Final = Struct(">BQQQIBB16s16s32s32s")
_LEAF_PREFIX: Final = b"\x00"


def pack_texts(*texts: str) -> bytes:
    """Return each text as two bytes of length and its UTF-8.

    Raises:
        ValueError: a text has more than 65,535 bytes.
    """
    parts: list[bytes] = []
    for text in texts:
        data = text.encode()
        if len(data) > 0xFFFF:
            raise ValueError("a header's text is longer than 65,535 bytes")
        parts += (len(data).to_bytes(2, "big"), data)
    return b"".join(parts)


def header(
    position: int,
    sequence: int,
    time: int,
    version: int,
    category: int,
    terminal: bool,
    id: bytes,
    cause: bytes | None,
    request: bytes | None,
    traceparent: str | None,
    previous: bytes,
    texts: bytes,
) -> bytes:
    """Return the header's bytes; `texts` is `pack_texts(tenant, session, kind, lane, source, actor)`."""
    flags = IS_TERMINAL if terminal else 0
    if cause is not None:
        flags |= HAS_CAUSE
    if request is not None:
        flags |= HAS_REQUEST
    last = b"\x00\x00"
    if traceparent is not None:
        flags |= HAS_TRACEPARENT
        last = pack_texts(traceparent)
    fixed = _FIXED.pack(
        HEADER_VERSION,
        position,
        sequence,
        time,
        version,
        category,
        flags,
        id,
        cause or NO_ID,
        request or NO_DIGEST,
        previous,
    )
    return fixed + texts + last


def event_leaf(head: bytes, salt: bytes, payload: bytes) -> bytes:
    """Return the leaf of the event with the header `head`: `leaf_hash` over `payload_digest`, in one call."""
    return sha256(_LEAF_PREFIX + head + sha256(salt + payload).digest()).digest()


def payload_digest(salt: bytes, payload: bytes) -> bytes:
    """Return the digest that stands for a payload, also after its erasure."""
    return sha256(salt + payload).digest()


def leaf_hash(head: bytes, digest: bytes) -> bytes:
    """Return the leaf of the event with the header `head` and the payload digest `digest`."""
    return sha256(_LEAF_PREFIX + head + digest).digest()
