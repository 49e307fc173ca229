"""The daemon's metrics."""

from __future__ import annotations

import pytest

from chronicled.daemon.metrics import Metrics
from chronicled.events.registry import builtin_registry


@pytest.mark.parametrize("value", [0, 7, 1_234_567, 123_456_789_012, 0.25])
def test_a_gauge_has_every_digit(value: float) -> None:
    """Positions and sizes are told as they are, and not rounded to six digits."""
    metrics = Metrics(builtin_registry())
    metrics.gauge("thing", "A thing.", lambda: value)
    line = next(line for line in metrics.exposition().splitlines() if line.startswith("chronicled_thing "))
    assert float(line.split()[1]) == value
    assert "e+" not in line
