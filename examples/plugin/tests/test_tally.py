"""The author's own tests: what this unit means. Whether it is right as a unit, the conformance kit tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from acme_tally.kinds import Tally
from acme_tally.policy import WORDS_MAX, decide
from acme_tally.steps import observation_to_1, tally_to_1, tally_to_2
from acme_tally.unit import UNIT

from chronicled.events.policy import PolicyRequest
from chronicled.migrations.vocabulary import vocabulary


def test_a_word_of_version_1_is_counted_as_a_list_of_one() -> None:
    """The upcaster changes the shape and nothing else."""
    assert tally_to_2({"word": "a", "thought": "t"}) == {"words": ["a"], "thought": "t"}


def test_version_1_is_told_no_more_than_it_can_hold() -> None:
    """Several words, or several counts, are refused to a reader of version 1."""
    assert tally_to_1({"words": ["a"], "account": "", "pause_seconds": 0.0}) == {"word": "a"}
    with pytest.raises(ValueError, match="one word"):
        tally_to_1({"words": ["a", "b"]})
    with pytest.raises(ValueError, match="one word"):
        observation_to_1({"counts": {"a": 1, "b": 2}})


@pytest.mark.parametrize(
    ("words", "rule"), [(["forbidden"], "acme.forbidden"), (["a"] * (WORDS_MAX + 1), "acme.too_many")]
)
def test_the_policy_names_its_rule(words: list[str], rule: str) -> None:
    """What is rejected is rejected by a rule with a name."""
    asked = PolicyRequest(
        tenant="default", session="s", lane="main", actor="a", kind="acme.tally", version=2, runtime="process",
        payload=Tally(words=words),
    )  # fmt: skip
    assert decide(asked).rule == rule


def test_the_unit_fits_beside_the_built_in_kinds(tmp_path: Path) -> None:
    """Every version has its path, and nothing of ours is in the way."""
    registry, _ = vocabulary([UNIT])
    assert registry.current("action", "acme.tally").version == 2
