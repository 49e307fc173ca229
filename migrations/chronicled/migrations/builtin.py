"""The upcasters of the built-in kinds, in order. Every kind is at version 1 so far."""

from __future__ import annotations

from typing import Final

from chronicled.migrations.chain import Chain, Upcaster

__all__ = ["UPCASTERS", "builtin_chain"]

UPCASTERS: Final[tuple[Upcaster, ...]] = ()


def builtin_chain() -> Chain:
    """Return the chain of the built-in upcasters."""
    return Chain(UPCASTERS)
