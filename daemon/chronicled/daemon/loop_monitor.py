"""Watches the event loop: how late a timer fires is how long something kept the loop busy."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from chronicled.daemon.metrics import Metrics

__all__ = ["watch_loop"]

INTERVAL_SECONDS: Final = 0.1
LAG_SECONDS_WARN: Final = 0.25

log: Any = structlog.get_logger("chronicled.loop")


async def watch_loop(metrics: Metrics) -> None:
    """Measure the loop's lag for ever, ten times a second. Cancellation: safe."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        lag = max(0.0, loop.time() - due)
        metrics.loop_lag.add(lag)
        if lag > LAG_SECONDS_WARN:
            log.warning("event loop was busy", lag_seconds=round(lag, 3))
