"""What a worker is told of a session's secrets: for its sandboxes, and for its own redaction."""

from __future__ import annotations

import msgspec

__all__ = ["SessionSecrets"]


class SessionSecrets(msgspec.Struct, frozen=True, kw_only=True):
    """The values themselves: never logged, never published; the representation hides them."""

    variables: dict[str, str | None] = {}
    """Variables of the session's shells on top of those in `session_created`; None takes one away."""
    values: dict[str, tuple[str, ...]] = {}
    """Every value that must not show, by the name that stands in its place."""

    def __repr__(self) -> str:
        return f"<SessionSecrets of {len(self.values)} secrets>"
