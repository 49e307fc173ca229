"""Examples of the unit's actions, for the conformance kit: what cannot be known without them."""

from __future__ import annotations

from chronicled.daemon.units.conformance.examples import ActionExample, UnitExamples

__all__ = ["EXAMPLES"]

KIND = "acme.tally"

EXAMPLES = UnitExamples(
    sequence=(
        ActionExample(
            kind=KIND,
            payload={"words": ["a", "b", "a"]},
            fields={"counts": {"a": 2, "b": 1}, "total": 3},
            output="a: 2",
        ),
        ActionExample(kind=KIND, payload={"words": ["a"]}, fields={"counts": {"a": 3}, "total": 4}),
    ),
    slow=ActionExample(kind=KIND, payload={"words": ["a"] * 100, "pause_seconds": 1.0}),
    failing=(ActionExample(kind=KIND, payload={"words": [""]}),),
)
