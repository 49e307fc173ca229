"""The terminal observation of any kind, built from what an untrusted action server says, through the registry."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chronicled.events.codec import encode_json
from chronicled.events.envelope import Event
from chronicled.events.kind import KindSpec, TerminalPayload
from chronicled.events.limits import OUTPUT_INLINE_BYTES_MAX
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.parts import BLOBS, head
from chronicled.events.plain import typed
from chronicled.events.registry import Registry
from chronicled.runtimes.action_server.frames import Result
from chronicled.runtimes.output.summary import OutputSummary

__all__ = ["EVENT_BYTES_MAX", "Ending", "bounded", "of_result", "prints", "terminal"]

EVENT_BYTES_MAX: Final = 60 << 10
"""Largest encoded observation payload: with its envelope a row stays under 64 KiB."""
TEXT_BYTES_MAX: Final = 2048
"""Most of a reason or message that a sandbox sent."""

EFFECTS: Final[dict[Outcome, frozenset[Effects]]] = {
    Outcome.OK: frozenset({Effects.COMPLETE}),
    Outcome.FAILED: frozenset({Effects.COMPLETE}),
    Outcome.TIMEOUT: frozenset({Effects.POSSIBLE}),
    Outcome.CANCELLED: frozenset({Effects.POSSIBLE, Effects.NONE}),
    Outcome.REJECTED: frozenset({Effects.NONE}),
    Outcome.ERROR: frozenset({Effects.NONE}),
    Outcome.OOM_KILLED: frozenset({Effects.POSSIBLE}),
    Outcome.KILLED: frozenset({Effects.POSSIBLE}),
    Outcome.SANDBOX_LOST: frozenset({Effects.POSSIBLE}),
    Outcome.UNKNOWN: frozenset({Effects.POSSIBLE}),
}
"""Which effects an outcome may claim (design D15)."""

UNTOLD: Final = frozenset({Outcome.SANDBOX_LOST, Outcome.UNKNOWN, Outcome.OOM_KILLED})
"""Outcomes that an action server cannot know of itself."""

OUR_FIELDS: Final = frozenset(TerminalPayload.__struct_fields__)
OUTPUT_FIELDS: Final = frozenset(OutputSummary.__struct_fields__)
KEPT_FIELDS: Final = OUTPUT_FIELDS - {"output", "output_index"}
"""What even an observation says whose output is not to be read by people, such as an archive."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an action ended, as the worker will say it; `fields` are the kind's own, unchecked."""

    outcome: Outcome
    effects: Effects
    reason: str | None = None
    message: str | None = None
    deadline: str | None = None
    duration_seconds: float | None = None
    generation: str | None = None
    fields: dict[str, Any] = {}


def of_result(result: Result, generation: str) -> Ending:
    """Return the ending that an action server's result tells, with what it cannot know taken out."""
    outcome, effects, message = result.outcome, result.effects, result.message
    if outcome in UNTOLD:
        message = f"The action server said {outcome}, which it cannot know. {message or ''}".rstrip()
        outcome = Outcome.UNKNOWN
    allowed = EFFECTS[outcome]
    if effects not in allowed:
        effects = max(allowed, key=lambda each: each == Effects.POSSIBLE)
    return Ending(
        outcome=outcome,
        effects=effects,
        reason=_clip(result.reason),
        message=_clip(message),
        deadline=_clip(result.deadline),
        duration_seconds=result.duration_seconds,
        generation=generation,
        fields=result.fields,
    )


def terminal(
    registry: Registry, action: Event, ending: Ending, output: OutputSummary | None = None
) -> tuple[KindSpec, msgspec.Struct]:
    """Return the kind and payload of the action's terminal observation.

    The outcome always stands: fields that do not fit the kind are dropped, and the message says so. Blobs are never the
    action server's to name: they could be another session's.

    Raises:
        UnknownKind: the kind has no observation here.
    """
    spec = registry.terminal_of(action.kind, action.version)
    known = set(spec.payload.__struct_fields__)
    base: dict[str, Any] = {
        name: getattr(ending, name) for name in TerminalPayload.__struct_fields__ if getattr(ending, name) is not None
    }
    ours = OUR_FIELDS | OUTPUT_FIELDS if known >= KEPT_FIELDS else OUR_FIELDS
    if output is not None and known >= KEPT_FIELDS:
        base |= {name: value for name, value in msgspec.structs.asdict(output).items() if name in known}
    if spec.parts:
        ours |= {BLOBS}
    fields = {name: value for name, value in ending.fields.items() if name not in ours}
    payload = _convert(spec, base | fields) if fields else None
    if payload is None:
        if fields:
            base["message"] = _joined(ending.message, "What else the action server said did not fit and was dropped.")
        payload = msgspec.convert(base, spec.payload, strict=False)
    return spec, payload


def prints(spec: KindSpec | None) -> bool:
    """Tell whether an output is what an action prints; else it is bytes that its observation shows nothing of."""
    return (
        spec is None
        or "output" in spec.payload.__struct_fields__
        or "output_digest" not in spec.payload.__struct_fields__
    )


def _convert(spec: KindSpec, values: dict[str, Any]) -> msgspec.Struct | None:
    try:
        payload: msgspec.Struct = typed(values, spec.payload)
        encode_json(payload)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError):
        return None
    return payload


def bounded(payload: msgspec.Struct) -> msgspec.Struct:
    """Return the payload with at most `EVENT_BYTES_MAX` when encoded.

    What no blob could take is shortened, or dropped but for what every terminal observation says; the message says so.
    """
    size = len(encode_json(payload))
    if size <= EVENT_BYTES_MAX:
        return payload
    note = "It was too large for an event and was shortened."
    texts = {
        name: value
        for name in payload.__struct_fields__
        if isinstance(value := getattr(payload, name), str) and name not in {"outcome", "effects", "message"}
    }
    changes: dict[str, Any] = {"message": _joined(getattr(payload, "message", None), note)}
    if "truncated" in payload.__struct_fields__:
        changes["truncated"] = True
    for name in sorted(texts, key=lambda name: len(texts[name]), reverse=True):
        changes[name] = head(texts[name], OUTPUT_INLINE_BYTES_MAX)
        smaller = msgspec.structs.replace(payload, **changes)
        if len(encode_json(smaller)) <= EVENT_BYTES_MAX:
            return smaller
    kept = {name: getattr(payload, name) for name in TerminalPayload.__struct_fields__} | {
        "message": changes["message"]
    }
    return type(payload)(**kept)


def _clip(text: str | None) -> str | None:
    if text is None or len(text) <= TEXT_BYTES_MAX:
        return text
    return text[:TEXT_BYTES_MAX]


def _joined(first: str | None, second: str) -> str:
    return second if not first else f"{first} {second}"
