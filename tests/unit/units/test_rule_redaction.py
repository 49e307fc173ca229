"""Rules of units: what they find is replaced, however a stream is cut, and nothing else is."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events.redaction import IdentityRedaction, StreamRedactor
from chronicled.events.redaction_rule import RedactionRule
from chronicled.events.rule_redaction import RuleRedaction, RuleStream

RULE = RedactionRule(name="acme.key", pattern="key-[0-9]+", length_max=12)
FIELD = RedactionRule(name="acme.account", fields=("account",))
PIECES = st.lists(st.sampled_from([b"key-", b"1", b"23", b"\n", b" ", b"k", b"ke", b"-", b"text"]), max_size=30)


def inner() -> StreamRedactor:
    """Return a redactor that changes nothing."""
    return IdentityRedaction().stream("", "")


@given(PIECES)
def test_an_output_is_the_same_however_it_is_cut(pieces: list[bytes]) -> None:
    """As long as no match is longer than the rule says, cutting changes nothing, and no match is left."""
    whole = b"".join(pieces)
    if any(len(found) > RULE.length_max for found in re.findall(rb"key-[0-9]+", whole)):
        return
    stream = RuleRedaction([RULE]).stream("acme.do", inner())
    passed = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
    assert passed == re.sub(rb"key-[0-9]+", b"<secret:acme.key>", whole)


@given(PIECES)
def test_a_length_can_be_kept(pieces: list[bytes]) -> None:
    """Where offsets must stay true, each byte of a match becomes a star."""
    whole = b"".join(pieces)
    stream = RuleRedaction([RULE]).stream("acme.do", inner(), keep_length=True)
    passed = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
    assert len(passed) == len(whole)
    assert all(len(found) > RULE.length_max for found in re.findall(rb"key-[0-9]+", passed))


@given(PIECES)
def test_what_a_pattern_looks_back_at_is_seen_across_cuts(pieces: list[bytes]) -> None:
    """What tells a secret may stand before it, in a piece that has been passed on already."""
    rule = RedactionRule(name="acme.key", pattern="(?<=key-)[0-9]+|(?<=text)(?=[k-])", length_max=5)
    whole = b"".join(pieces)
    if any(len(found) > rule.length_max for found in re.findall(rb"[0-9]+", whole)):
        return
    stream = RuleRedaction([rule]).stream("acme.do", inner())
    passed = b"".join(stream.feed(piece) for piece in pieces) + stream.finish()
    assert passed == re.sub(rb"(?<=key-)[0-9]+", b"<secret:acme.key>", whole)


def test_an_empty_match_hides_no_other() -> None:
    """Where a pattern matches nothing at one place, what it finds behind it is replaced all the same."""
    rule = RedactionRule(name="acme.password", pattern=r"(?<=password=)\S*", length_max=40)
    stream = RuleRedaction([rule]).stream("acme.do", inner())
    text = stream.feed(b"password= \npassword=hunter2\n") + stream.finish()
    assert text == b"password= \npassword=<secret:acme.password>\n"
    rules, payload = RuleRedaction([rule]), b'{"text":"password= password=hunter2"}'
    once = rules.payload("acme.do", payload)
    assert once == b'{"text":"password= password=<secret:acme.password>"}'
    assert rules.payload("acme.do", once) == once


def test_a_stream_that_holds_nothing_back_lets_a_match_through() -> None:
    """Negative control: with a rule that expects shorter matches, one that is cut is not found."""
    careless = RuleStream(re.compile(rb"key-[0-9]+"), b"*", 1, inner())
    assert careless.feed(b"ke") + careless.feed(b"y-123") + careless.finish() == b"key-123"


def test_a_line_that_is_over_is_not_held_back() -> None:
    """Who follows an output sees a whole line at once, and the newest piece of an unfinished one soon."""
    stream = RuleRedaction([RULE]).stream("acme.do", inner())
    assert stream.feed(b"a line\n") == b"a line\n"
    assert stream.feed(b"0123456789abcdef") == b"01234"


def test_payloads_are_cleaned_in_keys_and_values_and_only_once() -> None:
    """Every string, however deep; the same again changes nothing; what decides about an action is left alone."""
    rules = RuleRedaction([RULE, FIELD])
    payload = {"outcome": "ok", "account": "me", "deep": [{"key-1": ["see key-22", 3, None]}], "message": "key-3"}
    clean = rules.payload("acme.do", msgspec.json.encode(payload))
    assert msgspec.json.decode(clean) == {
        "outcome": "ok", "account": "<secret:acme.account>", "message": "<secret:acme.key>",
        "deep": [{"<secret:acme.key>": ["see <secret:acme.key>", 3, None]}],
    }  # fmt: skip
    assert rules.payload("acme.do", clean) is clean


def test_a_pattern_that_matches_its_own_name_changes_it_once() -> None:
    """Doing it again does not redact the placeholder."""
    rules = RuleRedaction([RedactionRule(name="acme.word", pattern="[a-z]+", length_max=9)])
    once = rules.payload("acme.do", b'{"text":"one"}')
    assert rules.payload("acme.do", once) == once == b'{"text":"<secret:acme.word>"}'


@pytest.mark.parametrize("kind", ["run", "acme", "other.do", "acme2.do"])
def test_rules_hold_for_kinds_of_their_own_unit_alone(kind: str) -> None:
    """Nobody's rule touches what is ours, or another's."""
    rules = RuleRedaction([RULE])
    data = b'{"text":"key-1"}'
    assert rules.payload(kind, data) is data
    stream = inner()
    assert rules.stream(kind, stream) is stream


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RedactionRule(name="other.key", pattern="a"), "must begin with"),
        (RedactionRule(name="acme.key"), "neither a pattern nor fields"),
        (RedactionRule(name="acme.key", pattern="("), "its pattern is none"),
        (RedactionRule(name="acme.key", pattern="a*"), "matches the empty string"),
        (RedactionRule(name="acme.key", pattern="a", length_max=0), "length_max is 1 to"),
        (RedactionRule(name="acme.<key>", pattern="a"), "must begin with"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_refused(rule: RedactionRule, words: str) -> None:
    """A unit with such a rule is broken, and the sentence says why."""
    with pytest.raises(ValueError, match=words):
        rule.check("acme")
