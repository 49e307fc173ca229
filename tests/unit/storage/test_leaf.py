"""The leaf's bytes are fixed for ever: test vectors, and that every field counts."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from chronicled.storage.leaf import header, leaf_hash, pack_texts, payload_digest

TEXTS = ("default", "s-1", "run", "main", "client", "uid:1000")
PLAIN: dict[str, Any] = {
    "position": 7,
    "sequence": 3,
    "time": 1_795_000_000_123_456,
    "version": 1,
    "category": 1,
    "terminal": False,
    "id": bytes(range(16)),
    "cause": None,
    "request": None,
    "traceparent": None,
    "previous": bytes(32),
    "texts": pack_texts(*TEXTS),
}
FULL: dict[str, Any] = PLAIN | {
    "position": 8,
    "sequence": 4,
    "time": 1_795_000_000_123_457,
    "version": 2,
    "category": 2,
    "terminal": True,
    "id": bytes(range(16, 32)),
    "cause": bytes(range(16)),
    "request": bytes(range(32)),
    "traceparent": "00-aa-bb-01",
    "previous": bytes([255]) * 32,
}
PLAIN_HEADER = (
    "01000000000000000700000000000000030006608b01611240000000010100000102030405060708090a0b0c0d0e0f000000"
    "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000764656661756c740003732d31000372756e00046d61"
    "696e0006636c69656e7400087569643a313030300000"
)
PLAIN_LEAF = "6838c60a648dbc5443e68ab82b71b18c617116b7c49eb9d5417883a7907217e1"
FULL_HEADER = (
    "01000000000000000800000000000000040006608b0161124100000002020f101112131415161718191a1b1c1d1e1f000102"
    "030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fffffffffff"
    "ffffffffffffffffffffffffffffffffffffffffffffffffffffff000764656661756c740003732d31000372756e00046d61"
    "696e0006636c69656e7400087569643a31303030000b30302d61612d62622d3031"
)
FULL_LEAF = "1e65d4ea19acfc54730af52321d354bf34208b9c41183ad15623d8d0d24c77fe"


@pytest.mark.parametrize(
    ("fields", "payload", "expected", "leaf"),
    [
        (PLAIN, b'{"command":"true"}', PLAIN_HEADER, PLAIN_LEAF),
        (FULL, b"{}", FULL_HEADER, FULL_LEAF),
    ],
    ids=["plain", "full"],
)
def test_vectors(fields: dict[str, Any], payload: bytes, expected: str, leaf: str) -> None:
    """A header and its leaf are these bytes, today and in ten years; others can compute them without us."""
    head = header(**fields)
    assert head.hex() == expected
    digest = sha256(bytes(16) + payload).digest()
    assert payload_digest(bytes(16), payload) == digest
    assert leaf_hash(head, digest).hex() == leaf == sha256(b"\x00" + head + digest).hexdigest()


@pytest.mark.parametrize("field", PLAIN)
def test_every_field_counts(field: str) -> None:
    """Whatever is changed changes the header; an absent value is not the same as zeros."""
    zeros: dict[str, Any] = {
        "cause": bytes(16),
        "request": bytes(32),
        "traceparent": "",
        "id": bytes(16),
        "previous": bytes([1]) * 32,
    }
    texts = pack_texts("default", "s-1r", "un", "main", "client", "uid:1000")
    other: Any = ({**FULL, "texts": texts} | zeros)[field]
    assert header(**PLAIN | {field: other}) != header(**PLAIN)


def test_texts_cannot_run_into_each_other() -> None:
    """Where one text ends and the next begins is part of the bytes, and a text has its limit."""
    assert pack_texts("ab", "c") != pack_texts("a", "bc")
    with pytest.raises(ValueError, match="65,535"):
        pack_texts("x" * 65_536)
