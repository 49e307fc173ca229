"""JSON in pieces: a value whose long texts are blobs is written without ever standing in memory whole."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from chronicled.events.errors import BlobNotFound

__all__ = ["BlobText", "json_pieces"]

_encode: Final = msgspec.json.encode


class BlobText(msgspec.Struct, frozen=True):
    """Stands in a value for the text that a blob holds."""

    digest: str
    fallback: str
    """What is written where the blob is not there."""


def json_pieces(
    value: Any, blob: Callable[[str], Iterator[bytes]], missing: Callable[[], None] = lambda: None
) -> Iterator[bytes]:
    """Yield the JSON of `value` (plain values, structs as leaves); bytes of a blob that are not UTF-8 show as U+FFFD.

    `missing` is called for a blob that is not there. Raises what `blob` raises otherwise.
    """
    if not _holds_blob(value):
        yield _encode(value)
    elif isinstance(value, BlobText):
        yield from _text(value, blob, missing)
    elif isinstance(value, dict):
        yield b"{"
        for number, (key, each) in enumerate(value.items()):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  any JSON value
            yield (b"," if number else b"") + _encode(key) + b":"
            yield from json_pieces(each, blob, missing)
        yield b"}"
    else:
        yield b"["
        for number, each in enumerate(value):
            if number:
                yield b","
            yield from json_pieces(each, blob, missing)
        yield b"]"


def _holds_blob(value: Any) -> bool:
    if isinstance(value, BlobText):
        return True
    if isinstance(value, dict):
        return any(_holds_blob(each) for each in value.values())  # pyright: ignore[reportUnknownVariableType]
    return isinstance(value, list) and any(_holds_blob(each) for each in value)  # pyright: ignore[reportUnknownVariableType]


def _text(value: BlobText, blob: Callable[[str], Iterator[bytes]], missing: Callable[[], None]) -> Iterator[bytes]:
    chunks = blob(value.digest)
    try:
        first = next(chunks, b"")
    except BlobNotFound:
        missing()
        yield _encode(value.fallback)
        return
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    yield b'"' + _encode(decoder.decode(first))[1:-1]
    for chunk in chunks:
        yield _encode(decoder.decode(chunk))[1:-1]
    yield _encode(decoder.decode(b"", final=True))[1:-1] + b'"'
