"""How an action ended: a closed set, each with the effects that it may have had."""

from __future__ import annotations

import enum

__all__ = ["Deadline", "Effects", "Outcome"]


class Outcome(enum.StrEnum):
    """What a terminal observation says. Clients treat a value that they do not know as `unknown`."""

    OK = "ok"
    """It ran and succeeded."""
    FAILED = "failed"
    """It ran and failed: exit code not 0, an exception, a tool error."""
    TIMEOUT = "timeout"
    """A named deadline fired while it ran."""
    CANCELLED = "cancelled"
    """A cancel event ended it, queued or running."""
    REJECTED = "rejected"
    """It never ran: policy, approval, lost state, queue deadline, session closed."""
    ERROR = "error"
    """It never ran: no executor, bad arguments found late, sandbox could not start."""
    OOM_KILLED = "oom_killed"
    """The kernel killed it for memory, as the engine proves."""
    KILLED = "killed"
    """Somebody's signal killed it, as the wait status proves."""
    SANDBOX_LOST = "sandbox_lost"
    """Its generation is proven dead and left no result."""
    UNKNOWN = "unknown"
    """Nobody can know whether it ran."""


class Effects(enum.StrEnum):
    """What an action may have changed."""

    NONE = "none"
    COMPLETE = "complete"
    POSSIBLE = "possible"


class Deadline(enum.StrEnum):
    """Which deadline fired."""

    QUEUE = "queue"
    START = "start"
    COMMAND = "command"
    QUIET = "quiet"
    LIFE = "life"
