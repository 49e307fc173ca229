"""Which actions must not run any more though they never ran: judged from the log, so any worker says the same."""

from __future__ import annotations

from chronicled.events.codec import Codec, Opaque
from chronicled.events.envelope import Event
from chronicled.events.kinds.lifecycle import SessionClosed
from chronicled.events.lanes import SessionFold
from chronicled.events.outcome import Deadline, Effects, Outcome
from chronicled.runtimes.worker.observation import Ending

__all__ = ["never_ran", "refusal"]


def never_ran(outcome: Outcome, reason: str, message: str, deadline: Deadline | None = None) -> Ending:
    """Return the ending of an action that was never sent."""
    return Ending(outcome=outcome, effects=Effects.NONE, reason=reason, message=message, deadline=deadline)


def refusal(fold: SessionFold, codec: Codec, action: Event) -> Ending | None:
    """Return how an open action that was never sent must end now, or None if it may still run. Pure."""
    if fold.cancel_requested(action.id):
        return never_ran(Outcome.CANCELLED, "cancelled", "It was cancelled before its turn came.")
    if fold.closed is not None:
        closed = codec.decode(fold.closed)
        if isinstance(closed, SessionClosed) and closed.reason == "life_deadline":
            message = "The session's life deadline passed before its turn came."
            return never_ran(Outcome.REJECTED, "session_closed", message, Deadline.LIFE)
        return never_ran(Outcome.REJECTED, "session_closed", "The session was closed before its turn came.")
    payload = codec.decode(action)
    if isinstance(payload, Opaque):
        return never_ran(Outcome.ERROR, "bad_payload", f"The payload cannot be read: {payload.reason[:1000]}.")
    if fold.state_lost(action) and getattr(payload, "on_state_loss", "reject") != "run":
        message = (
            "The sandbox, or the lane's shell, was lost after this action was accepted and before it ran: it would "
            'meet a fresh state. Submit it again, or with `on_state_loss: "run"`.'
        )
        return never_ran(Outcome.REJECTED, "state_lost", message)
    return None
