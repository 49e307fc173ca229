"""OpenHands V0 trajectories: one JSON array that OpenHands 0.62 loads.

An event's `id` is its sequence here (ids with holes: lifecycle events have no place there), `cause` the action's, and
the time is UTC without a zone, as OpenHands writes the clock of a machine that runs in UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from chronicled.events.codec import Opaque
from chronicled.events.envelope import ACTION, LIFECYCLE
from chronicled.events.kinds.runnable import Runnable
from chronicled.migrations.formats.chronicle import Chronicle, Item, Tally
from chronicled.migrations.formats.openhands_v0_actions import action_shape
from chronicled.migrations.formats.openhands_v0_observations import Seen, observation_shape, opaque_shape
from chronicled.migrations.formats.pieces import BlobText, json_pieces

__all__ = ["event_of", "write"]


def write(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield the trajectory, an event a line."""

    def missing() -> None:
        tally.missing_blobs += 1

    yield b"["
    for item in chronicle.items():
        tally.take(item)
        if item.event.category == LIFECYCLE or item.event.kind == "progress":
            tally.leave_out(item.event.kind)
            continue
        if isinstance(item.payload, Runnable) and chronicle.ending(item.event.id) is None:
            tally.running += 1
        yield b"\n" if tally.written == 0 else b",\n"
        tally.written += 1
        yield from json_pieces(event_of(chronicle, item), chronicle.blob, missing)
    yield b"\n]\n"


def event_of(chronicle: Chronicle, item: Item) -> dict[str, Any]:
    """Return the event as OpenHands V0 stores it; long texts as the blobs that hold them."""
    event = item.event
    head = {"id": event.sequence, "timestamp": event.time.removesuffix("Z")}
    if not isinstance(item.payload, Opaque) and event.category == ACTION:
        shape = action_shape(chronicle, event.kind, item.payload)
        found: dict[str, Any] = {**head, "source": shape.source, "message": _shown(shape.message)}
        found |= {"action": shape.type, "args": shape.args}
        if shape.timeout is not None:
            found["timeout"] = shape.timeout
        return found
    action = None if event.cause is None else chronicle.find(event.cause)
    seen = _seen(item, None if action is None else action.payload)
    found = {**head, "source": seen.source, "message": seen.message}
    if action is not None:
        found["cause"] = action.event.sequence
    found |= {"observation": seen.type, "content": seen.content, "extras": seen.extras}
    if seen.success is not None:
        found["success"] = seen.success
    return found


def _seen(item: Item, action: Any) -> Seen:
    payload = item.payload
    if not isinstance(payload, Opaque):
        return observation_shape(item.event.kind, payload, action)
    stored: Any = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        stored = msgspec.json.decode(payload.payload)
    text = payload.payload.decode(errors="replace")
    return opaque_shape(payload.kind, payload.version, payload.reason, text, stored)


def _shown(text: str | BlobText) -> str:
    return text if isinstance(text, str) else text.fallback
