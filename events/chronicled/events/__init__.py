"""The vocabulary: events, kinds, the codec, and the protocols of the log. No I/O; standard library and msgspec only."""

from __future__ import annotations

from chronicled.events.codec import Codec, Opaque
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Category, Draft, Event
from chronicled.events.errors import ChronicledError
from chronicled.events.kind import KindSpec, Payload, TerminalPayload, action, lifecycle, observation
from chronicled.events.outcome import Deadline, Effects, Outcome
from chronicled.events.registry import Registry, builtin_registry
from chronicled.events.store import Append, Appended, EventStore, Filter, Page
from chronicled.events.stream import EventStream

__all__ = [
    "ACTION",
    "LIFECYCLE",
    "OBSERVATION",
    "Append",
    "Appended",
    "Category",
    "ChronicledError",
    "Codec",
    "Cursor",
    "Deadline",
    "Draft",
    "Effects",
    "Event",
    "EventStore",
    "EventStream",
    "Filter",
    "KindSpec",
    "Opaque",
    "Outcome",
    "Page",
    "Payload",
    "Registry",
    "TerminalPayload",
    "action",
    "builtin_registry",
    "lifecycle",
    "observation",
]
