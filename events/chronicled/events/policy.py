"""The policy hook: whoever may say no to an action before it is accepted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

__all__ = ["Decision", "Policy", "PolicyRequest"]


class PolicyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One action, as a policy sees it: what the log will show, so with every secret replaced."""

    tenant: str
    session: str
    lane: str
    actor: str
    """Who submits it, as the daemon has found out."""
    kind: str
    version: int
    payload: msgspec.Struct
    """The payload as the log will have it. Never changed by a policy."""
    runtime: str
    image: str | None = None
    labels: Mapping[str, str] = {}
    """Of the session."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy says: nothing against it, or no, by which rule and why."""

    allowed: bool
    rule: str = ""
    """Stable id of the rule that says no."""
    message: str = ""
    """For whoever submitted the action: what is not allowed and what to do instead."""

    @classmethod
    def allow(cls) -> Decision:
        """Return the decision that nothing is against it."""
        return cls(allowed=True)

    @classmethod
    def reject(cls, rule: str, message: str) -> Decision:
        """Return the decision that it must not run."""
        return cls(allowed=False, rule=rule, message=message)


Policy = Callable[[PolicyRequest], Decision | Awaitable[Decision]]
"""A function, `async` or not: one that is not runs in a thread. An error or a late answer of it is a no."""
