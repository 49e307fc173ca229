"""What a client asks for when it submits an action."""

from __future__ import annotations

import msgspec

__all__ = ["ActionRequest"]


class ActionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One action as a client asks for it; the payload is not validated yet."""

    kind: str
    payload: bytes
    lane: str = "main"
    id: str | None = None
    expected_sequence: int | None = None
