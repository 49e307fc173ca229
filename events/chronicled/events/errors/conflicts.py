"""Requests that the log has moved past."""

from __future__ import annotations

from chronicled.events.errors.root import ChronicledError

__all__ = [
    "ActionEnded",
    "ActionNotRunning",
    "Conflict",
    "IdReused",
    "SequenceMismatch",
    "SessionClosed",
    "SessionExists",
    "SessionNewer",
    "StaleFence",
    "TransferFailed",
]


class Conflict(ChronicledError):
    """Raised when the log has moved on since the caller looked."""

    code = "conflict"
    title = "The state has changed"
    status = 409


class SessionExists(Conflict):
    """Raised when a session of that name was created before, by another request."""

    code = "session-exists"
    title = "A session of that name exists"


class SessionClosed(Conflict):
    """Raised when an action is submitted to a closed session."""

    code = "session-closed"
    title = "The session is closed"


class SessionNewer(Conflict):
    """Raised when an action is submitted to a session that only a newer version of the daemon understands."""

    code = "session-newer"
    title = "A newer version of the daemon is needed for the session"


class ActionEnded(Conflict):
    """Raised when an action that already has its terminal observation is to be changed."""

    code = "action-ended"
    title = "The action has ended"


class ActionNotRunning(Conflict):
    """Raised when input or an interrupt is sent to an action that does not run at the moment."""

    code = "action-not-running"
    title = "The action is not running"


class TransferFailed(Conflict):
    """Raised when the action that was to bring files did not end well; it is named, and its observation says why."""

    code = "transfer-failed"
    title = "The files could not be brought"


class StaleFence(Conflict):
    """Raised when a worker publishes under a claim that a later claim has replaced."""

    code = "stale-fence"
    title = "Another worker has claimed the session"


class SequenceMismatch(Conflict):
    """Raised when `expected_sequence` is not the session's last client-submitted sequence."""

    code = "sequence-mismatch"
    title = "The session has moved on"
    status = 412


class IdReused(Conflict):
    """Raised when an event id (or idempotency key) comes back with another request."""

    code = "id-reused"
    title = "The id was used for another request"
    status = 422
