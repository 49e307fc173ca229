"""What the model cost, for ATIF: only imported sessions can tell, from what OpenHands V0 kept with its events."""

from __future__ import annotations

from typing import Any, Final

from chronicled.migrations.formats.chronicle import Chronicle, Item
from chronicled.migrations.formats.openhands_v0_originals import source_of

__all__ = ["Costs"]

KEPT: Final = "llm_metrics"
TOKENS: Final = {
    "prompt_tokens": "total_prompt_tokens",
    "completion_tokens": "total_completion_tokens",
    "cache_read_tokens": "total_cached_tokens",
}


class Costs:
    """The totals so far: OpenHands keeps running ones, so that the newest tell of the whole session."""

    def __init__(self) -> None:
        self._totals: dict[str, Any] = {}

    def take(self, chronicle: Chronicle, item: Item) -> None:
        """Take what the event's original record tells, if it tells anything."""
        if item.origin is None or not any(path.endswith(KEPT) for path in item.origin.lost):
            return
        source = source_of(chronicle, item)
        metrics = _mapping(_mapping(None if source is None else source.record).get(KEPT))
        cost = metrics.get("accumulated_cost")
        if isinstance(cost, int | float) and cost >= 0:
            self._totals["total_cost_usd"] = float(cost)
        usage = _mapping(metrics.get("accumulated_token_usage"))
        for name, total in TOKENS.items():
            if type(usage.get(name)) is int and usage[name] >= 0:
                self._totals[total] = usage[name]

    def totals(self) -> dict[str, Any]:
        """Return the fields of `final_metrics` that are known."""
        return dict(self._totals)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  # whatever JSON has
