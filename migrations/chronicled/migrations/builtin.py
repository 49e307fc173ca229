"""The upcasters and downcasters of the built-in kinds, in order."""

from __future__ import annotations

import shlex
from typing import Any, Final

from chronicled.migrations.chain import Chain, Downcaster, Upcaster, unchanged

__all__ = ["DOWNCASTERS", "UPCASTERS", "builtin_chain"]


def _without(payload: dict[str, Any], *names: str) -> dict[str, Any]:
    """Leave out what says more, and nothing else, than the former version did."""
    for name in names:
        payload.pop(name, None)
    return payload


def _unless(payload: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    """Leave out what is as the former version had it without a word.

    Raises:
        ValueError: it is not, so the former version would tell something else.
    """
    for name, default in defaults.items():
        if payload.pop(name, default) != default:
            raise ValueError(f"`{name}` is set")
    return payload


def _run(payload: dict[str, Any]) -> dict[str, Any]:
    argv = payload.pop("argv", None)
    if argv is not None:
        payload["command"] = shlex.join(argv)
    return payload


def _read(payload: dict[str, Any]) -> dict[str, Any]:
    return _unless(payload, byte_offset=None, byte_count=None, charset=None)


def _read_observation(payload: dict[str, Any]) -> dict[str, Any]:
    return _without(_unless(payload, byte_offset=0), "charset")


def _edit_observation(payload: dict[str, Any]) -> dict[str, Any]:
    return _without(_unless(payload, truncated=False), "charset", "line_count", "match_lines")


def _session_created(payload: dict[str, Any]) -> dict[str, Any]:
    return _without(payload, "idle_seconds", "sandbox", "secrets")


def _session_closed(payload: dict[str, Any]) -> dict[str, Any]:
    if payload.get("reason") == "idle_deadline":
        raise ValueError("there was no idle deadline")
    return payload


def _generation_started_3(payload: dict[str, Any]) -> dict[str, Any]:
    return _without(payload, "versions", "units", "missing")


def _generation_started(payload: dict[str, Any]) -> dict[str, Any]:
    return _without(payload, "phases", "image_digest", "warm")


UPCASTERS: Final[tuple[Upcaster, ...]] = (
    Upcaster("action", "read", 1, unchanged),
    Upcaster("action", "run", 1, unchanged),
    Upcaster("lifecycle", "generation_started", 1, unchanged),
    Upcaster("lifecycle", "generation_started", 2, unchanged),
    Upcaster("lifecycle", "session_closed", 1, unchanged),
    Upcaster("lifecycle", "session_created", 1, unchanged),
    Upcaster("observation", "edit", 1, unchanged),
    Upcaster("observation", "read", 1, unchanged),
)

DOWNCASTERS: Final[tuple[Downcaster, ...]] = (
    Downcaster("action", "read", 1, _read),
    Downcaster("action", "run", 1, _run),
    Downcaster("lifecycle", "generation_started", 1, _generation_started),
    Downcaster("lifecycle", "generation_started", 2, _generation_started_3),
    Downcaster("lifecycle", "session_closed", 1, _session_closed),
    Downcaster("lifecycle", "session_created", 1, _session_created),
    Downcaster("observation", "edit", 1, _edit_observation),
    Downcaster("observation", "read", 1, _read_observation),
)


def builtin_chain() -> Chain:
    """Return the chain of the built-in steps."""
    return Chain(UPCASTERS, DOWNCASTERS)
