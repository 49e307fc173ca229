"""JSON in pieces is the same JSON, however a blob is cut into chunks, and never larger than a chunk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.errors import BlobNotFound
from chronicled.migrations.formats.pieces import BlobText, json_pieces

LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    """Yield the bytes in chunks."""
    return iter([data[at : at + size] for at in range(0, len(data), size)])


@given(VALUES, st.binary(max_size=200), st.integers(1, 17))
def test_a_blob_in_a_value_is_its_text(value: Any, data: bytes, size: int) -> None:
    """Whatever the bytes, wherever they are cut: the value reads as if the blob's text had stood there."""
    whole = {"before": value, "text": BlobText("digest", ""), "list": [BlobText("digest", ""), value]}
    text = b"".join(json_pieces(whole, lambda _: chunked(data, size))).decode()
    shown = data.decode(errors="replace")
    assert json.loads(text) == {"before": value, "text": shown, "list": [shown, value]}


def test_a_large_blob_comes_in_small_pieces() -> None:
    """64 MiB of a blob are written a chunk at a time."""
    chunk = b"\x00\xc3\xa9x" * 16_384
    sizes = [len(piece) for piece in json_pieces({"a": BlobText("d", "")}, lambda _: iter([chunk] * 1024))]
    assert max(sizes) <= 6 * len(chunk)
    assert sum(sizes) > 64 << 20


def test_a_blob_that_is_gone_leaves_what_stood_in_its_place() -> None:
    """The head that the event has is written, and the miss is told."""

    def gone(digest: str) -> Iterator[bytes]:
        raise BlobNotFound(f"no {digest}")
        yield b""

    misses: list[int] = []
    text = b"".join(json_pieces([BlobText("d", "head")], gone, lambda: misses.append(1)))
    assert json.loads(text) == ["head"]
    assert misses == [1]
