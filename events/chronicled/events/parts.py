"""Payload parts: long texts of a payload that become blobs, so that no event is large (design D13).

A payload that is too large for an event keeps a readable head of its longest parts. Its field `blobs` names each part
that was taken out, with the SHA-256 of the whole text in UTF-8; the blob of that digest holds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

import msgspec

__all__ = ["BLOBS", "Blobs", "Digest", "blobs_of", "head", "join", "split"]

BLOBS: Final = "blobs"
"""Name of the field that every payload with parts has."""

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Blobs = dict[str, Digest]
"""Field name to SHA-256. Filled in by the daemon and the worker alone: who may name a blob may read it."""

_encode = msgspec.json.encode


def blobs_of(payload: Any) -> Mapping[str, str]:
    """Return which parts of the payload are blobs: field name to digest."""
    found: Mapping[str, str] = getattr(payload, BLOBS, {})
    return found


def split(
    payload: msgspec.Struct, parts: Collection[str], bytes_max: int, head_bytes_max: int
) -> tuple[msgspec.Struct, dict[str, bytes]]:
    """Take out the longest of the parts until the payload has at most `bytes_max` bytes, or nothing is left to take.

    Returns the payload, heads in place and blobs named, and the bytes of each blob by digest. `join` undoes it.
    """
    texts = {name: value for name in parts if isinstance(value := getattr(payload, name), str)}
    sizes = {name: len(_encode(text)) for name, text in texts.items()}
    taken: dict[str, bytes] = {}
    named = dict(blobs_of(payload))
    for name in sorted(texts, key=lambda name: sizes[name], reverse=True):
        if sizes[name] <= head_bytes_max or len(_encode(payload)) <= bytes_max:
            break
        data = texts[name].encode()
        named[name] = hashlib.sha256(data).hexdigest()
        taken[named[name]] = data
        payload = msgspec.structs.replace(payload, **{name: head(texts[name], head_bytes_max), BLOBS: dict(named)})
    return payload, taken


def join(payload: msgspec.Struct, parts: Mapping[str, bytes]) -> msgspec.Struct:
    """Put the bytes of each part, by field name, back in its place; no blob is named any more.

    Raises:
        UnicodeDecodeError: the bytes are no text.
        KeyError: a part is missing.
    """
    texts: dict[str, Any] = {name: parts[name].decode() for name in blobs_of(payload)}
    return msgspec.structs.replace(payload, **texts, **{BLOBS: {}})


def head(text: str, bytes_max: int) -> str:
    """Return a head of `text` that has at most `bytes_max` bytes when encoded as JSON."""
    end = min(len(text), bytes_max)
    while end and len(_encode(text[:end])) > bytes_max:
        end = end * 3 // 4
    # Whole groups of four, so that the head of base64 is still base64.
    return text if end == len(text) else text[: end - end % 4]
