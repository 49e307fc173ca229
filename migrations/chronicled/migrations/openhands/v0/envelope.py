"""One event of OpenHands V0, lifted out of the form that it was written in: a type, its fields, what is around them.

Three forms are in circulation. *Event*: what store, socket and trajectories have, fields in `args` or `extras`.
*Flat*: what evaluations and the resolver exported until about 0.15, fields beside the type, without id, source or
cause. *Pair*: an action and its observation in a list of two, in evaluation histories before 0.13.0; of either form.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache
from typing import Any, Final, TypeGuard

__all__ = ["MASK", "Envelope", "Unreadable", "empty", "is_array", "is_object", "lift", "text"]

MASK: Final = "<secret_hidden>"
"""What stood in for a secret. Before 0.50.0 it could end up inside any field, times and sources too."""
SOURCES: Final = frozenset({"agent", "user", "environment"})
AROUND: Final = frozenset(
    {
        "id",
        "timestamp",
        "source",
        "message",
        "cause",
        "tool_call_metadata",
        "llm_metrics",
        "action",
        "args",
        "timeout",
        "observation",
        "content",
        "extras",
        "success",
    }
)
FLAT_AROUND: Final = frozenset(
    {"id", "_id", "timestamp", "_timestamp", "source", "_source", "cause", "_cause", "action", "observation", "message"}
)
TOLD: Final = frozenset({"error", "status", "status_update", "action"})
"""What has one of these, and is neither action nor observation, was told by a server."""
PLACELESS: Final = ("tool_call_metadata", "llm_metrics")


class Unreadable(Exception):
    """A record that no event of ours can be made of; says why."""


class Envelope:
    """One event while it is brought to the newest shape; its fields may be changed, the record's own never are."""

    __slots__ = (
        "action", "attached", "cause", "content", "fields", "flat", "id", "key", "lost", "releases", "source", "steps",
        "time", "timeout", "type",
    )  # fmt: skip

    def __init__(self, key: str, type: str, fields: dict[str, Any], *, action: bool, flat: bool) -> None:
        self.key = key
        self.type = type
        self.fields = fields
        """`args` of an action, `extras` of an observation."""
        self.action = action
        self.flat = flat
        self.content: Any = None
        """Of an observation."""
        self.id: int | None = None
        self.time: str | None = None
        self.source: str | None = None
        self.cause: int | None = None
        self.timeout: Any = None
        self.steps: list[str] = []
        self.releases: list[str] = []
        self.lost: list[str] = []
        self.attached: dict[str, bytes] = {}

    @property
    def shape(self) -> str:
        """From which shape it was read, e.g. `event action run, before 0.12.0`."""
        return _shape(self.flat, self.action, self.type[:64], tuple(self.releases))

    def step(self, release: str, name: str) -> None:
        """Note that a step was taken since the record was written before a release."""
        self.steps.append(f"{release} {name}")
        self.releases.append(release)

    def lose(self, *names: str) -> None:
        """Note fields that found no place, unless they say nothing."""
        where = "args" if self.action else "extras"
        self.lost.extend(f"{where}.{name}" for name in names if not empty(self.fields.get(name)))

    def lose_rest(self, taken: Set[str]) -> None:
        """Note every field that is not among those that were taken, unless it says nothing."""
        for name, value in self.fields.items():
            if name not in taken and value is not None and value is not False and not empty(value):
                self.lost.append(f"args.{name}" if self.action else f"extras.{name}")


@lru_cache(maxsize=1024)
def _shape(flat: bool, action: bool, type: str, releases: tuple[str, ...]) -> str:
    era = f", before {min(releases, key=_order)}" if releases else ""
    return f"{'flat' if flat else 'event'} {'action' if action else 'observation'} {type}{era}"


def _order(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether it is a JSON object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Tell whether it is a JSON array."""
    return isinstance(value, list)


def empty(value: Any) -> bool:
    """Tell whether a field says nothing that its absence would not say."""
    return value is None or value is False or value == "" or value == [] or value == {} or value == -1


def text(value: Any) -> str:
    """Return what ought to be text as text.

    Raises:
        Unreadable: it is nothing that can be read as text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if is_array(value) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, bool | int | float):
        return str(value)
    raise Unreadable(f"text was expected, not {type(value).__name__}")


def lift(key: str, value: Any) -> Envelope:
    """Lift an event out of its form.

    Raises:
        Unreadable: it is neither an action nor an observation.
    """
    if not is_object(value):
        raise Unreadable(f"an event is an object, not {type(value).__name__}")
    record = _told(value)
    action = "action" in record and not (record["action"] is None and isinstance(record.get("observation"), str))
    name = "action" if action else "observation"
    kind = record.get(name)
    if name not in record:
        raise Unreadable("neither an action nor an observation")
    if kind is None:
        kind = "null"
    if not isinstance(kind, str):
        raise Unreadable(f"the type of an {name} is text, not {type(kind).__name__}")
    inner = record.get("args" if action else "extras")
    if action and "args" not in record and is_object(record.get("extras")):
        inner, record = _shared(record)
    if is_object(inner):
        envelope = Envelope(key, kind, dict(inner), action=action, flat=False)
        if not record.keys() <= AROUND:
            envelope.lost.extend(name for name, item in record.items() if name not in AROUND and not empty(item))
        envelope.content = record.get("content")
        if action and not empty(envelope.content):
            envelope.lost.append("content")
    elif "args" in record or "extras" in record:
        if not empty(inner):
            raise Unreadable(f"the fields of an {name} are an object, not {type(inner).__name__}")
        envelope = Envelope(key, kind, {}, action=action, flat=False)
        envelope.content = record.get("content")
    else:
        envelope = _lift_flat(key, kind, record, action=action)
    _look_around(envelope, record)
    return envelope


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a server told the web interface beside the events as an observation; any other record as it is.

    Trajectories that people gave with their feedback have all that came over the socket: `{"status": ...}`,
    `{"error": ..., "error_code": ...}`, `{"status_update": true, "type": ..., "message": ...}`, or a content alone.
    """
    if record.get("action") is not None or record.get("observation") is not None:
        return record
    extras = record.get("extras")
    rest = {**(extras if is_object(extras) else {}), **record}
    said = {name: rest[name] for name in ("error", "status", "content", "message") if isinstance(rest.get(name), str)}
    if not said or TOLD.isdisjoint(rest):
        return record
    content = next((text for text in said.values() if text.strip()), "")
    kind = "error" if rest.get("type") == "error" or said.get("error") else "status" if content else "null"
    taken = {*said, "extras", "action", "observation", "source", "timestamp", "status_update", "type"}
    fields = {name: item for name, item in rest.items() if name not in taken}
    around = {name: record[name] for name in ("source", "timestamp") if record.get(name) is not None}
    return {**around, "observation": kind, "content": content, "extras": fields}


def _shared(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments and the rest of an action that has them where observations have theirs.

    So they stand in published collections, whose rows all have the same fields: `extras`, and a message's `content`.
    """
    fields = dict(record["extras"])
    rest = {name: item for name, item in record.items() if name not in {"extras", "observation"} or item is None}
    if isinstance(record.get("content"), str) and fields.setdefault("content", record["content"]) == record["content"]:
        del rest["content"]
    return fields, rest


def _lift_flat(key: str, kind: str, record: Mapping[str, Any], *, action: bool) -> Envelope:
    fields = {name: item for name, item in record.items() if name not in FLAT_AROUND}
    timeout = fields.pop("timeout", None) if action else None
    envelope = Envelope(key, kind, fields, action=action, flat=True)
    envelope.timeout = timeout
    for name in PLACELESS:
        if not empty(fields.pop(name, None)):
            envelope.lost.append(name)
    if not action:
        envelope.content = fields.pop("content", None)
        fields.pop("success", None)
    return envelope


def _look_around(envelope: Envelope, record: Mapping[str, Any]) -> None:
    id = record.get("id", record.get("_id") if envelope.flat else None)
    if type(id) is int and id >= 0:
        envelope.id = id
    elif id is not None and id != -1:
        envelope.lost.append("id")
    time = record.get("timestamp", record.get("_timestamp") if envelope.flat else None)
    if isinstance(time, str):
        envelope.time = time
    elif time is not None:
        envelope.lost.append("timestamp")
    source = record.get("source", record.get("_source") if envelope.flat else None)
    if isinstance(source, str) and source in SOURCES:
        envelope.source = source
    elif source is not None:
        envelope.lost.append("source")
    cause = record.get("cause", record.get("_cause") if envelope.flat else None)
    if type(cause) is int:
        envelope.cause = cause if cause >= 0 else None
    elif cause is not None:
        envelope.lost.append("cause")
    if not envelope.flat:
        envelope.timeout = record.get("timeout") if envelope.action else None
        for name in PLACELESS:
            if not empty(record.get(name)):
                envelope.lost.append(name)
