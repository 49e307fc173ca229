"""What an observation says of an output: all of it when it is small, else its head and tail, with size and digest."""

from __future__ import annotations

import codecs
from typing import Final

import msgspec

from chronicled.events.codec import encode_json
from chronicled.events.limits import OUTPUT_INLINE_BYTES_MAX

__all__ = ["EXCERPT_BYTES", "OutputSummary", "excerpt", "glimpse", "whole"]

EXCERPT_BYTES: Final = 12 << 10
"""Bytes of an output that is too large for its observation which are kept from its start, and from its end."""
EXCERPT_ENCODED_BYTES_MAX: Final = OUTPUT_INLINE_BYTES_MAX // 2 - 256


class OutputSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The output fields of an observation; names and meaning as in `chronicled.events.kinds.observations`."""

    output: str = ""
    output_bytes: int = 0
    output_digest: str | None = None
    output_blob: bool = False
    output_dropped_bytes: int = 0
    truncated: bool = False
    output_index: list[tuple[int, int]] = []


def whole(data: bytes) -> tuple[str, bool] | None:
    """Return the output as text, and whether the text is exact, if all of it can stand in an observation; else None.

    In a text that is not exact, U+FFFD stands for what is not UTF-8.
    """
    if len(data) > OUTPUT_INLINE_BYTES_MAX:
        return None
    try:
        text, exact = data.decode(), True
    except UnicodeDecodeError:
        text, exact = data.decode(errors="replace"), False
    return (text, exact) if len(encode_json(text)) <= OUTPUT_INLINE_BYTES_MAX else None


def excerpt(head: bytes, tail: bytes, size: int) -> str:
    """Return the start of `head`, a line that says how many of the `size` bytes are left out, and the end of `tail`.

    What is not UTF-8 shows as U+FFFD; a character that is cut by an edge is left out, not shown broken.
    """
    first, first_bytes = _start(head)
    last, last_bytes = _end(tail)
    missing = max(0, size - first_bytes - last_bytes)
    return f"{first}\n[... {missing} bytes are left out here, the output has {size} ...]\n{last}"


def glimpse(tail: bytes, bytes_max: int) -> str:
    """Return the newest part of an output as text that has at most `bytes_max` bytes when encoded."""
    return _end(tail, bytes_max)[0]


def _start(data: bytes) -> tuple[str, int]:
    while True:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        text = decoder.decode(data)
        if len(encode_json(text)) <= EXCERPT_ENCODED_BYTES_MAX:
            return text, len(data) - len(decoder.getstate()[0])
        data = data[: len(data) * 3 // 4]


def _end(data: bytes, bytes_max: int = EXCERPT_ENCODED_BYTES_MAX) -> tuple[str, int]:
    while True:
        # Continuation bytes at the front belong to a character that began before.
        start = next((index for index, byte in enumerate(data[:3]) if byte & 0xC0 != 0x80), min(3, len(data)))
        text = data[start:].decode(errors="replace")
        if len(encode_json(text)) <= bytes_max:
            return text, len(data) - start
        data = data[-(len(data) * 3 // 4) :]
