"""What an event that was imported from OpenHands V0 gets back of its original record when it is exported to there.

Its id, cause, time, source and message; and of what found no place in our events that which OpenHands 0.62 has a field
for. Nothing else is taken from the record: the rest comes from our events, and shows what they hold.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, cast

import msgspec

from chronicled.events.codec import Opaque
from chronicled.events.envelope import ACTION, LIFECYCLE
from chronicled.events.kinds.lifecycle import LateResult
from chronicled.migrations.formats.chronicle import Chronicle, Item

__all__ = ["NAMELESS", "Source", "foreign_id", "restore", "source_of"]

FORMAT: Final = "openhands.v0"
SOURCES: Final = frozenset({"agent", "user", "environment"})
AROUND: Final = ("tool_call_metadata", "llm_metrics")
"""What stands around every event, and has no place in ours."""
CHOICES: Final = frozenset({"security_risk", "confirmation_state"})
"""What has a few values only: one that found no place is none of them, and would not load."""
NAMELESS: Final = 1_000_000_000
"""Added to the sequence of what came from OpenHands without an id of its own, which must not look like another's."""
RECORD_BYTES_MAX: Final = 64 << 20


class Source(msgspec.Struct):
    """The original event: a record, or half of a pair."""

    record: Any
    lost: tuple[str, ...]
    observation: bool
    """Whether the record is one."""

    def shown(self, item: Item) -> bool:
        """Tell whether the event stands for the record, and not for something that the import had to add."""
        if isinstance(item.payload, Opaque | LateResult):
            return True
        return item.event.category != LIFECYCLE and (item.event.category == ACTION) is not self.observation


def source_of(chronicle: Chronicle, item: Item) -> Source | None:
    """Return the original event of OpenHands V0 that the item was made of; None where it has none."""
    origin = item.origin
    if origin is None or origin.format != FORMAT or not origin.key or origin.size > RECORD_BYTES_MAX:
        return None
    data = chronicle.original(origin)
    try:
        record: Any = msgspec.json.decode(data or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = None
    lost = origin.lost
    if record.__class__ is list and len(record) == 2:
        half = 0 if item.event.category == ACTION else 1
        record = record[half]
        lost = tuple(path[2:] for path in lost if path.startswith(f"{half}."))
    found = _mapping(record)
    if "args" not in found and isinstance(found.get("action"), str) and isinstance(found.get("extras"), dict):
        record = found | {"args": found["extras"]}  # in rows of collections both stand in one field
    observation = isinstance(record, dict) and found.get("action") is None
    return Source(record, lost, observation)


def foreign_id(chronicle: Chronicle, item: Item) -> int:
    """Return what OpenHands called the event; a number of ours where it does not come from there."""
    source = source_of(chronicle, item)
    return item.event.sequence if source is None else _id(item, source)


def restore(found: dict[str, Any], item: Item, source: Source) -> None:
    """Give an event what it had around it, and what found no place in ours."""
    record = _mapping(source.record)
    found["id"] = _id(item, source)
    if item.opaque:
        return
    if _is_time(record.get("timestamp")):
        found["timestamp"] = record["timestamp"]
    if record.get("source") in SOURCES:
        found["source"] = record["source"]
    if isinstance(record.get("message"), str):
        found["message"] = record["message"]
    if type(record.get("cause")) is int:
        found["cause"] = record["cause"]
    for path in source.lost:
        _put_back(found, record, path)
    for inner in ("args", "extras"):
        # Which of two programs read or edited a file: ours is neither.
        if "impl_source" in _mapping(found.get(inner)) and "impl_source" in _mapping(record.get(inner)):
            found[inner]["impl_source"] = record[inner]["impl_source"]
    if "extras" in found and "_diff_cache" in _mapping(record.get("extras")):
        found["extras"]["_diff_cache"] = record["extras"]["_diff_cache"]


def _id(item: Item, source: Source) -> int:
    id = _mapping(source.record).get("id")
    return id if type(id) is int and id >= 0 else NAMELESS + item.event.sequence


def _is_time(value: Any) -> bool:
    """Tell whether it is a time: before 0.50.0 it could be the mask of a secret."""
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _put_back(found: dict[str, Any], record: dict[str, Any], path: str) -> None:
    """Put a value back where OpenHands 0.62 has a field for it."""
    names = path.split(".")
    here: Any = found
    there: Any = record
    for name in names[:-1]:
        here, there = _mapping(here).get(name), _mapping(there).get(name)
    name = names[-1]
    # What stands around an event and could not be read here cannot be read there either.
    known = path in {*AROUND, "content", "timeout"} if len(names) == 1 else name in _mapping(here)
    if known and isinstance(here, dict) and name in _mapping(there) and name not in CHOICES:
        here[name] = there[name]


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
