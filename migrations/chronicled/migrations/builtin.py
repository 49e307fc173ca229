"""The upcasters of the built-in kinds, in order."""

from __future__ import annotations

from typing import Any, Final

from chronicled.migrations.chain import Chain, Upcaster

__all__ = ["UPCASTERS", "builtin_chain"]


def _as_it_is(payload: dict[str, Any]) -> dict[str, Any]:
    # The new version has only more fields, or more values of one: their defaults say what held before.
    return payload


UPCASTERS: Final[tuple[Upcaster, ...]] = (
    Upcaster("action", "read", 1, _as_it_is),
    Upcaster("action", "run", 1, _as_it_is),
    Upcaster("lifecycle", "generation_started", 1, _as_it_is),
    Upcaster("lifecycle", "session_closed", 1, _as_it_is),
    Upcaster("lifecycle", "session_created", 1, _as_it_is),
    Upcaster("observation", "edit", 1, _as_it_is),
    Upcaster("observation", "read", 1, _as_it_is),
)


def builtin_chain() -> Chain:
    """Return the chain of the built-in upcasters."""
    return Chain(UPCASTERS)
