"""Redaction under random values, shapes, surroundings and cuts."""

from __future__ import annotations

import random

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.unit.events.secret_shapes import shapes

from chronicled.events.errors import SecretRefused
from chronicled.events.secret_forms import check_value, fold, needles
from chronicled.events.secret_redaction import SecretRedaction

TEXT = st.characters(codec="utf-8", exclude_characters="\0")
VALUES = st.text(st.one_of(st.characters(min_codepoint=32, max_codepoint=126), TEXT), min_size=9, max_size=120)


@st.composite
def admitted(draw: st.DrawFn) -> str:
    """A value that may be a secret."""
    value = draw(VALUES)
    try:
        check_value("NAME", value)
    except SecretRefused:
        assume(False)
    return value


def _cut(redaction: SecretRedaction, data: bytes, seed: int) -> bytes:
    stream, rng, at = redaction.stream("t", "s"), random.Random(seed), 0
    found: list[bytes] = []
    while at < len(data):
        size = rng.choice((1, 2, 3, 7, 31, 400))
        found.append(stream.feed(data[at : at + size]))
        at += size
    return b"".join(found) + stream.finish()


@settings(max_examples=150, deadline=None)
@given(st.lists(admitted(), min_size=1, max_size=5), st.binary(max_size=60), st.integers(0, 2**32))
def test_no_shape_of_any_value_passes(values: list[str], noise: bytes, seed: int) -> None:
    """Whatever values, shapes, surroundings and cuts: no needle of any value is left, and the cuts change nothing."""
    redaction = SecretRedaction()
    redaction.register("t", "s", {f"S{number}": [value] for number, value in enumerate(values)})
    rng = random.Random(seed)
    for value in values:
        for shape in rng.sample(sorted(shapes(value).items()), 6):
            data = noise[: rng.randrange(61)] + b"~" + shape[1] + b"~" + noise[: rng.randrange(61)]
            whole = redaction.stream("t", "s")
            once = whole.feed(data) + whole.finish()
            assert b"<secret:S" in once, shape
            assert shape[1] not in once, shape
            assert not any(needle in fold(once) for each in values for needle in needles(each)), shape
            assert _cut(redaction, data, seed) == once, shape


@settings(max_examples=150, deadline=None)
@given(st.lists(admitted(), min_size=1, max_size=5), st.binary(max_size=3000), st.integers(0, 2**32))
def test_what_is_no_value_passes_unchanged(values: list[str], data: bytes, seed: int) -> None:
    """Bytes in which no value shows come out as they went in, however they are cut."""
    redaction = SecretRedaction()
    redaction.register("t", "s", {f"S{number}": [value] for number, value in enumerate(values)})
    matcher = redaction.matcher("t", "s")
    assert matcher is not None
    assume(not matcher.spans(data))
    assert _cut(redaction, data, seed) == data
