"""From version to version: pure functions of plain JSON values, total over what the version allows."""

from __future__ import annotations

from typing import Any

from chronicled.migrations.chain import Downcaster, Upcaster

__all__ = ["DOWNCASTERS", "UPCASTERS"]


def tally_to_2(payload: dict[str, Any]) -> dict[str, Any]:
    """One word becomes a list of one."""
    payload["words"] = [payload.pop("word")]
    return payload


def tally_to_1(payload: dict[str, Any]) -> dict[str, Any]:
    """A list of one becomes a word; more, version 1 could not say.

    Raises:
        ValueError: it is not one word.
    """
    payload.pop("account", None)
    payload.pop("pause_seconds", None)
    words = payload.pop("words")
    if len(words) != 1:
        raise ValueError("version 1 has one word")
    payload["word"] = words[0]
    return payload


def observation_to_2(payload: dict[str, Any]) -> dict[str, Any]:
    """The word itself stood only in the action, so that its count is all that is known."""
    payload["total"] = payload.pop("count", 0)
    return payload


def observation_to_1(payload: dict[str, Any]) -> dict[str, Any]:
    """What version 1 had: the count of one word.

    Raises:
        ValueError: it counted several.
    """
    counts = payload.pop("counts", {})
    total = payload.pop("total", 0)
    for name in [name for name in payload if name.startswith("output") or name == "truncated"]:
        del payload[name]
    if len(counts) > 1:
        raise ValueError("version 1 has the count of one word")
    payload["count"] = next(iter(counts.values()), total)
    return payload


UPCASTERS = (
    Upcaster("action", "acme.tally", 1, tally_to_2),
    Upcaster("observation", "acme.tally", 1, observation_to_2),
)
DOWNCASTERS = (
    Downcaster("action", "acme.tally", 1, tally_to_1),
    Downcaster("observation", "acme.tally", 1, observation_to_1),
)
