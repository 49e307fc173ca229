"""Counters of the daemon, in Prometheus' text form."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from chronicled.events.envelope import OBSERVATION, Event
from chronicled.events.opaque import Opaque
from chronicled.events.outcome import Outcome
from chronicled.events.registry import Registry

__all__ = ["MEDIA_TYPE", "Histogram", "Metrics", "outcome_of"]

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
OPAQUE_MAX: Final = 512
"""Kinds with reasons that are counted one by one; foreign logs may hold any number of kinds."""
LAG_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Histogram:
    """Counts of values up to each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0
        self.max = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.sum += value
        self.max = max(self.max, value)
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self.counts[index] += 1
                return
        self.counts[-1] += 1

    def lines(self, name: str) -> Iterable[str]:
        """Render as `name_bucket`, `name_sum` and `name_count`."""
        total = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.sum:.6f}"
        yield f"{name}_count {total}"


class _Ended(msgspec.Struct, frozen=True):
    outcome: Outcome = Outcome.UNKNOWN


_ended = msgspec.json.Decoder(_Ended)


def outcome_of(observation: Event) -> Outcome:
    """Return the outcome in a terminal observation; `unknown` for one that is not known here."""
    try:
        return _ended.decode(observation.payload).outcome
    except (ValueError, RecursionError):
        return Outcome.UNKNOWN


class Metrics:
    """What the daemon counts. Labels are closed sets: never a session, an id or a path.

    Args:
        registry: Tells which observations are terminal.
    """

    def __init__(self, registry: Registry) -> None:
        self._terminal = frozenset(spec.kind for spec in registry if spec.category == OBSERVATION and spec.terminal)
        self.started = time.monotonic()
        self.events: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.requests: Counter[int] = Counter()
        self.opaque: Counter[tuple[str, str]] = Counter()
        self.batch_events = Histogram(BATCH_BOUNDS)
        self.loop_lag = Histogram(LAG_BOUNDS)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def committed(self, events: Sequence[Event]) -> None:
        """Count one commit."""
        self.batch_events.add(len(events))
        for event in events:
            self.events[event.category] += 1
            if event.category == OBSERVATION and event.kind in self._terminal:
                self.outcomes[outcome_of(event)] += 1

    def unreadable(self, opaque: Opaque) -> None:
        """Count a payload that could not be read: once for each time that somebody wanted to."""
        key = (opaque.kind, opaque.why)
        if key not in self.opaque and len(self.opaque) >= OPAQUE_MAX:
            key = ("", opaque.why)
        self.opaque[key] += 1

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Have `read` called for the value of `chronicled_NAME` whenever the metrics are asked for."""
        self.gauges[name] = (text, read)

    def exposition(self) -> str:
        """Return everything in Prometheus' text form."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterable[str]:
        yield from _head("events_appended_total", "counter", "Events committed, by category.")
        for category, count in sorted(self.events.items()):
            yield f'chronicled_events_appended_total{{category="{category}"}} {count}'
        yield from _head("actions_ended_total", "counter", "Terminal observations committed, by outcome.")
        for outcome, count in sorted(self.outcomes.items()):
            yield f'chronicled_actions_ended_total{{outcome="{outcome}"}} {count}'
        yield from _head("http_answers_total", "counter", "HTTP answers, by status; 499 is a client that went away.")
        for status, count in sorted(self.requests.items()):
            yield f'chronicled_http_answers_total{{status="{status}"}} {count}'
        yield from _head("events_opaque_total", "counter", "Payloads that could not be read, by kind and reason.")
        for (kind, why), count in sorted(self.opaque.items()):
            yield f'chronicled_events_opaque_total{{kind="{_escaped(kind)}",reason="{why}"}} {count}'
        yield from _head("commit_batch_events", "histogram", "Events in one commit.")
        yield from self.batch_events.lines("chronicled_commit_batch_events")
        yield from _head("loop_lag_seconds", "histogram", "How late the event loop ran a timer.")
        yield from self.loop_lag.lines("chronicled_loop_lag_seconds")
        yield from _head("loop_lag_seconds_max", "gauge", "The latest that the event loop ran a timer.")
        yield f"chronicled_loop_lag_seconds_max {self.loop_lag.max:.6f}"
        yield from _head("uptime_seconds", "gauge", "Since the daemon started.")
        yield f"chronicled_uptime_seconds {time.monotonic() - self.started:.3f}"
        for name, (text, read) in self.gauges.items():
            yield from _head(name, "gauge", text)
            yield f"chronicled_{name} {read()}"  # every digit: a position above a million is none to round


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP chronicled_{name} {text}", f"# TYPE chronicled_{name} {kind}"
