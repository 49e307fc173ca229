"""The vocabulary: events, kinds, the codec, and the protocols of the log. No I/O; standard library and msgspec only.

What this package offers is imported when it is first asked for: an action server needs little of it, and stays small.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from chronicled.events.codec import Codec
    from chronicled.events.cursor import Cursor
    from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Category, Draft, Event
    from chronicled.events.errors import ChronicledError
    from chronicled.events.kind import KindSpec, Payload, TerminalPayload, action, lifecycle, observation
    from chronicled.events.opaque import Opaque
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

_HOMES: Final = {
    "codec": ("Codec",),
    "cursor": ("Cursor",),
    "envelope": (
        "ACTION",
        "LIFECYCLE",
        "OBSERVATION",
        "Category",
        "Draft",
        "Event",
    ),
    "errors": ("ChronicledError",),
    "kind": (
        "KindSpec",
        "Payload",
        "TerminalPayload",
        "action",
        "lifecycle",
        "observation",
    ),
    "opaque": ("Opaque",),
    "outcome": (
        "Deadline",
        "Effects",
        "Outcome",
    ),
    "registry": (
        "Registry",
        "builtin_registry",
    ),
    "store": (
        "Append",
        "Appended",
        "EventStore",
        "Filter",
        "Page",
    ),
    "stream": ("EventStream",),
}
"""Names by the module that has them."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            # From now on it is here, and this function is not asked again.
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
