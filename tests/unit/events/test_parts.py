"""Payload parts: large texts leave the payload for blobs, and come back as they were."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events import Codec, Payload, Registry, action, builtin_registry
from chronicled.events.codec import encode_json
from chronicled.events.errors import InvalidPayload
from chronicled.events.kinds.actions import Edit, Run, Write
from chronicled.events.limits import PART_BYTES_MAX, PART_HEAD_BYTES_MAX
from chronicled.events.parts import blobs_of, head, join, split

CODEC = Codec(builtin_registry())
WRITE = CODEC.registry.current("action", "write")
PARTS = ("file_text", "old_str", "new_str")
# Long where it matters, small to draw: a few characters, often repeated.
TEXT = st.tuples(st.text(max_size=12), st.integers(0, 60)).map(lambda drawn: drawn[0] * drawn[1])


def joined(payload: Any, taken: dict[str, bytes]) -> Any:
    """Return the payload with its blobs put back."""
    return join(payload, {name: taken[digest] for name, digest in blobs_of(payload).items()})


@given(st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, st.integers(200, 2000), st.integers(1, 100))
def test_what_is_split_is_joined_again(
    one: str | None, two: str | None, three: str | None, bytes_max: int, head_bytes_max: int
) -> None:
    """Whatever the texts and limits: joining undoes splitting, digests are true, and what stays inline is a head."""
    whole = Edit(path="x", command="create", file_text=one, old_str=two, new_str=three)
    small, taken = split(whole, PARTS, bytes_max, head_bytes_max)
    assert joined(small, taken) == whole
    assert {hashlib.sha256(data).hexdigest(): data for data in taken.values()} == taken
    assert set(blobs_of(small).values()) == set(taken)
    for name in PARTS:
        text, inline = getattr(whole, name), getattr(small, name)
        if name in blobs_of(small):
            assert text.startswith(inline)
            assert len(encode_json(inline)) <= head_bytes_max + 2  # an empty text has its two quotes
        else:
            assert inline == text
    left = [name for name in PARTS if name not in blobs_of(small) and getattr(small, name) is not None]
    if len(encode_json(small)) > bytes_max:
        assert all(len(encode_json(getattr(small, name))) <= head_bytes_max for name in left)


@given(TEXT, st.integers(2, 500))
def test_a_head_fits_and_is_the_start(text: str, bytes_max: int) -> None:
    """A head has at most so many bytes as JSON; a text that fits is its own head."""
    start = head(text, bytes_max)
    assert text.startswith(start)
    assert len(encode_json(start)) <= bytes_max
    assert len(encode_json(text)) > bytes_max or start == text


def test_the_longest_part_goes_first() -> None:
    """Only as many parts are taken as must be, and a small payload is left alone."""
    payload = Edit(path="x", command="str_replace", old_str="o" * 40_000, new_str="n" * 50_000)
    spec = CODEC.registry.current("action", "edit")
    small, taken = CODEC.split("t", "s", spec, payload)
    assert list(blobs_of(small)) == ["new_str"]
    assert list(taken.values()) == [b"n" * 50_000]
    assert CODEC.split("t", "s", spec, msgspec.structs.replace(payload, old_str="")) == (
        msgspec.structs.replace(payload, old_str=""),
        {},
    )


@pytest.mark.parametrize("content", ["x" * PART_BYTES_MAX, "é" * 500_000, "\x01" * 20_000, "Zm9v" * 100_000])
def test_a_large_write_is_a_small_event_that_names_its_blob(content: str) -> None:
    """The draft's payload is small, readable, and names the blob; the draft reaches it through its session."""
    payload, taken = CODEC.split("t", "s", WRITE, Write(path="x", content=content))
    draft = CODEC.draft("action", "write", payload, tenant="t", session="s", id="i")
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert taken == {digest: content.encode()}
    assert draft.blobs == (digest,)
    assert len(draft.payload) < PART_HEAD_BYTES_MAX + 1024
    stored = msgspec.json.decode(draft.payload)
    assert stored["blobs"] == {"content": digest}
    assert content.startswith(stored["content"])
    assert len(stored["content"]) % 4 == 0


class OverTheEdge:
    """A redaction of one value."""

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Replace the secret."""
        return payload.replace(b"hunter2hunter2", b"<secret>")

    def active(self, tenant: str, session: str) -> bool:
        """Redact every session."""
        return True

    def text(self, tenant: str, session: str, text: str) -> str:
        """Never asked here."""
        raise AssertionError

    def fragment(self, tenant: str, session: str, data: bytes, *, head: bool, tail: bool) -> bytes:
        """Not used here."""
        raise AssertionError

    def stream(self, tenant: str, session: str, *, keep_length: bool = False) -> Any:
        """Never asked here."""
        raise AssertionError


@pytest.mark.parametrize("before", range(PART_HEAD_BYTES_MAX - 20, PART_HEAD_BYTES_MAX + 4))
def test_a_part_is_redacted_before_it_is_split_and_hashed(before: int) -> None:
    """Wherever a secret stands, also across the end of the head, neither event nor blob holds any of it."""
    codec = Codec(builtin_registry(), redaction=OverTheEdge())
    content = "x" * before + "hunter2hunter2" + "y" * PART_BYTES_MAX
    payload, taken = codec.split("t", "s", WRITE, Write(path="x", content=content))
    draft = codec.draft("action", "write", payload, tenant="t", session="s", id="i")
    (data,) = taken.values()
    assert data == content.replace("hunter2hunter2", "<secret>").encode()
    assert draft.blobs == (hashlib.sha256(data).hexdigest(),)
    assert b"hunter" not in draft.payload


def test_a_client_names_no_blobs() -> None:
    """A digest that a client sent would open another session's blob: the payload is refused."""
    sent = encode_json({"path": "x", "content": "y", "blobs": {"content": "ab" * 32}})
    with pytest.raises(InvalidPayload, match="filled in here"):
        CODEC.validate(WRITE, sent)
    assert CODEC.validate(WRITE, b'{"path":"x","content":"y","blobs":{}}') == Write(path="x", content="y")


def test_a_lone_surrogate_in_a_part_is_bad_input() -> None:
    """Text that no blob could hold is refused as any invalid payload."""
    with pytest.raises(InvalidPayload, match="not valid Unicode"):
        CODEC.split("t", "s", CODEC.registry.current("action", "run"), Run(command="\ud800" * PART_BYTES_MAX))


class Bare(Payload, frozen=True, kw_only=True):
    """A payload without the field that names blobs."""

    text: str


def test_parts_need_their_fields() -> None:
    """A kind whose payload could not name its blobs, or lacks the part, cannot be registered."""
    with pytest.raises(ValueError, match="a field `blobs`"):
        Registry([action("acme.bare", Bare, parts=("text",))])
    with pytest.raises(ValueError, match="a field `blobs`"):
        Registry([action("acme.write", Write, parts=("contents",))])
