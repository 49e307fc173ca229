"""OpenHands V0 trajectories: one JSON array that OpenHands 0.62 loads.

An event's `id` is its sequence here (ids with holes: lifecycle events have no place there), `cause` the action's, and
the time is UTC without a zone, as OpenHands writes the clock of a machine that runs in UTC. An event that was imported
from OpenHands V0 has its own id, cause and time again, and what found no place in ours: see `openhands_v0_originals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from chronicled.events.clock import format_time
from chronicled.events.codec import Opaque
from chronicled.events.envelope import ACTION, LIFECYCLE
from chronicled.events.kinds.lifecycle import LateResult
from chronicled.events.kinds.runnable import Runnable
from chronicled.migrations.formats.chronicle import Chronicle, Item, Tally
from chronicled.migrations.formats.openhands_v0_actions import action_shape
from chronicled.migrations.formats.openhands_v0_observations import Seen, late_shape, observation_shape, opaque_shape
from chronicled.migrations.formats.openhands_v0_originals import Source, foreign_id, restore, source_of
from chronicled.migrations.formats.pieces import BlobText, json_pieces

__all__ = ["event_of", "write"]


def write(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield the trajectory, an event a line."""

    def missing() -> None:
        tally.missing_blobs += 1

    yield b"["
    for item in chronicle.items():
        tally.take(item)
        source = source_of(chronicle, item)
        if not _has_place(item, source):
            tally.leave_out(item.event.kind)
            continue
        if isinstance(item.payload, Runnable) and chronicle.ending(item.event.id) is None:
            tally.running += 1
        yield b"\n" if tally.written == 0 else b",\n"
        tally.written += 1
        yield from json_pieces(event_of(chronicle, item, source), chronicle.blob, missing)
    yield b"\n]\n"


def _has_place(item: Item, source: Source | None) -> bool:
    if source is not None:
        return source.shown(item)
    if item.origin is not None and item.origin.format == "openhands.v0" and not item.origin.key:
        return False  # the end of an action that the source did not show
    return item.event.category != LIFECYCLE and item.event.kind != "progress"


def event_of(chronicle: Chronicle, item: Item, source: Source | None = None) -> dict[str, Any]:
    """Return the event as OpenHands V0 stores it; long texts as the blobs that hold them."""
    event = item.event
    found: dict[str, Any] = {"id": event.sequence, "timestamp": format_time(item.micros).removesuffix("Z")}
    if not isinstance(item.payload, Opaque) and event.category == ACTION:
        shape = action_shape(chronicle, event.kind, item.payload)
        found |= {"source": shape.source, "message": _shown(shape.message)}
        found |= {"action": shape.type, "args": shape.args}
        if shape.timeout is not None:
            found["timeout"] = shape.timeout
    else:
        action = None if event.cause is None else chronicle.find(event.cause)
        seen = _seen(item, source, None if action is None else action.payload)
        found |= {"source": seen.source, "message": seen.message}
        if action is not None:
            found["cause"] = foreign_id(chronicle, action)
        found |= {"observation": seen.type, "content": seen.content, "extras": seen.extras}
        if seen.success is not None:
            found["success"] = seen.success
    if source is not None:
        restore(found, item, source)
    return found


def _seen(item: Item, source: Source | None, action: Any) -> Seen:
    payload = item.payload
    if isinstance(payload, LateResult):
        return late_shape(payload)
    if not isinstance(payload, Opaque):
        return observation_shape(item.event.kind, payload, action)
    if source is not None:
        return opaque_shape(payload.kind, payload.version, payload.reason, "", source.record)
    stored: Any = None
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        stored = msgspec.json.decode(payload.payload)
    text = payload.payload.decode(errors="replace")
    return opaque_shape(payload.kind, payload.version, payload.reason, text, stored)


def _shown(text: str | BlobText) -> str:
    return text if isinstance(text, str) else text.fallback
