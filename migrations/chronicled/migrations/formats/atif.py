"""ATIF, the Agent Trajectory Interchange Format, version 1.7: one JSON document with the steps of an agent.

A message, a system prompt, a thought or a finish is a step; so is an action, as a tool call, and its observation stands
in the same step. What the agent was told otherwise (its state, what it recalled) is a step of the system. What cannot
be read is a step of the system too, with the stored payload. Lifecycle events have no place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from chronicled.events.codec import Opaque
from chronicled.events.envelope import ACTION, LIFECYCLE
from chronicled.events.kinds.actions import Finish, Message, System, Think
from chronicled.events.parts import blobs_of
from chronicled.migrations.formats.atif_metrics import Costs
from chronicled.migrations.formats.chronicle import Chronicle, Item, Tally
from chronicled.migrations.formats.pieces import json_pieces
from chronicled.migrations.formats.shown_text import Text, part_of, text_of

__all__ = ["SCHEMA_VERSION", "write"]

SCHEMA_VERSION: Final = "ATIF-v1.7"
UNKNOWN: Final = "unknown"
SHOWN: Final = frozenset({"output", "content", "blobs", "output_index"})
"""Fields of an observation that stand in a result's content, or say nothing outside of the log."""

Step = dict[str, Any]


def write(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield the document; the agent stands behind its steps, since they may tell who it is."""
    agent: dict[str, Any] = {"name": UNKNOWN, "version": UNKNOWN}

    costs = Costs()

    def missing() -> None:
        tally.missing_blobs += 1

    begin = {"schema_version": SCHEMA_VERSION, "session_id": f"{chronicle.tenant}/{chronicle.session}"}
    yield msgspec.json.encode(begin)[:-1] + b',"steps":['
    for item in chronicle.items():
        tally.take(item)
        if isinstance(item.payload, System):
            _learn(agent, item.payload)
        costs.take(chronicle, item)
        step = _step(chronicle, tally, item)
        if step is None:
            continue
        tally.written += 1
        yield b"\n" if tally.written == 1 else b",\n"
        yield from json_pieces({"step_id": tally.written, **step}, chronicle.blob, missing)
    if not tally.written:
        # The format wants one step at least.
        empty = {"step_id": 1, "source": "system", "message": "", "extra": {"note": "the session has no steps"}}
        yield msgspec.json.encode(empty)
    end: dict[str, Any] = {
        "agent": agent,
        "final_metrics": {**costs.totals(), "total_steps": max(1, tally.written)},
        "extra": {
            "producer": "chronicled",
            "incarnation": chronicle.incarnation,
            "after": chronicle.after,
            "head": chronicle.head,
            "running": tally.running,
            "opaque": tally.opaque,
            "left_out": tally.left_out,
        },
    }
    yield b"\n]," + msgspec.json.encode(end)[1:] + b"\n"


def _learn(agent: dict[str, Any], payload: System) -> None:
    if payload.agent:
        agent["name"] = payload.agent
    if payload.agent_version:
        agent["version"] = payload.agent_version
    if payload.tools and all(isinstance(tool.get("function"), dict) for tool in payload.tools):
        agent["tool_definitions"] = payload.tools


def _step(chronicle: Chronicle, tally: Tally, item: Item) -> Step | None:
    event, payload = item.event, item.payload
    if isinstance(payload, Opaque) and event.category != LIFECYCLE:
        return _opaque(item)
    if event.category == ACTION:
        return _action(chronicle, tally, item)
    if event.category == LIFECYCLE or event.kind == "progress":
        tally.leave_out(event.kind)
        return None
    if item.terminal and event.cause is not None:
        action = chronicle.find(event.cause)
        if action is not None and action.event.position > chronicle.after and not action.opaque:
            return None  # stands in its action's step
    return _base(item, "system") | {"message": "", "observation": {"results": [_result(item)]}}


def _base(item: Item, source: str) -> Step:
    event = item.event
    extra: dict[str, Any] = {"id": event.id, "position": event.position, "kind": event.kind, "lane": event.lane}
    if event.cause is not None:
        extra["cause"] = event.cause
    if item.redacted:
        extra["redacted"] = True
    return {"timestamp": item.time, "source": source, "extra": extra}


def _opaque(item: Item) -> Step:
    payload = item.payload
    step = _base(item, "system")
    step["extra"] |= {"opaque": payload.reason, "version": payload.version, "erased": item.erased}
    return step | {"message": payload.payload.decode(errors="replace")}


def _action(chronicle: Chronicle, tally: Tally, item: Item) -> Step:
    payload = item.payload
    if isinstance(payload, Message):
        step = _base(item, payload.role)
        for name, urls in (("image_urls", payload.image_urls), ("file_urls", payload.file_urls)):
            if urls:
                step["extra"][name] = urls
        return step | {"message": part_of(payload, "content")}
    if isinstance(payload, System):
        return _base(item, "system") | {"message": part_of(payload, "content")}
    if isinstance(payload, Think):
        return _base(item, "agent") | {"message": "", "reasoning_content": part_of(payload, "thought")}
    step = _base(item, "agent")
    said = payload.final_thought if isinstance(payload, Finish) else ""
    step["message"] = said or getattr(payload, "thought", "") or ""
    step["tool_calls"] = [
        {"tool_call_id": item.event.id, "function_name": item.event.kind, "arguments": arguments_of(payload)}
    ]
    end = chronicle.ending(item.event.id)
    if end is not None:
        result = _result(end)
        result["source_call_id"] = item.event.id
        step["observation"] = {"results": [result]}
    elif hasattr(payload, "timeout_seconds"):
        tally.running += 1
        step["extra"]["status"] = "not ended when this was exported"
    return step


@lru_cache(maxsize=256)
def _fields(payload: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    # Each look evaluates every annotation anew: half of the time of an export.
    return msgspec.structs.fields(payload)


def arguments_of(payload: Any) -> dict[str, Any]:
    """Return an action's fields that say something, each text that is a blob as that blob."""
    found: dict[str, Any] = {}
    for field in _fields(payload.__class__):
        value = getattr(payload, field.name)
        if value is None or field.name in {"thought", "blobs"}:
            continue
        if field.required or (value != field.default and value not in ([], {})):
            found[field.name] = msgspec.to_builtins(value)
    found.update({name: part_of(payload, name) for name in blobs_of(payload) if name in found})
    return found


def _result(item: Item) -> dict[str, Any]:
    payload = item.payload
    text: Text = text_of(payload)
    extra: dict[str, Any] = {"id": item.event.id, "position": item.event.position, "time": item.time}
    if isinstance(payload, Opaque):
        extra |= {"opaque": payload.reason, "version": payload.version, "erased": item.erased}
    else:
        extra |= {
            name: value for name, value in msgspec.to_builtins(payload).items() if _says(value) and name not in SHOWN
        }
    return {"content": text, "extra": extra}


def _says(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [], {})
