"""Which actions are not accepted. It sees what the log will show, never a secret."""

from __future__ import annotations

from acme_tally.kinds import Tally
from chronicled.events.policy import Decision, PolicyRequest

__all__ = ["decide"]

WORDS_MAX = 1000


def decide(request: PolicyRequest) -> Decision:
    """Reject what would keep a sandbox busy for nothing, and what nobody should count."""
    if isinstance(request.payload, Tally):
        if len(request.payload.words) > WORDS_MAX:
            return Decision.reject("acme.too_many", f"At most {WORDS_MAX} words at a time.")
        if "forbidden" in request.payload.words:
            return Decision.reject("acme.forbidden", "That word is not counted here.")
    return Decision.allow()
