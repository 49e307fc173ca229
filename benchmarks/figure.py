"""A measured figure, with the floor or limit that it is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Figure", "quantile", "report"]


@dataclass(frozen=True)
class Figure:
    """One line of a report. `limit` is the largest value that meets the target; None is told for information only."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        text = f"  {self.name:<46}{self.value:>12,.3f} {self.unit:<5}"
        if self.limit is not None:
            verdict = "met" if self.met else "MISSED"
            share = f" ({self.value / self.limit:.2f} of it)" if self.limit else ""
            text += f"  target {self.limit:,.3f}{share} {verdict}"
        return f"{text}  {self.note}".rstrip()


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def report(title: str, figures: Sequence[Figure]) -> bool:
    """Print the figures; return whether every target is met."""
    print(title)
    for figure in figures:
        print(figure)
    return all(figure.met for figure in figures)
