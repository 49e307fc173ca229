"""What can go wrong with an engine."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from chronicled.events.errors import SandboxError, SandboxUnreachable

__all__ = ["EngineDenied", "EngineRefused", "EngineUnreachable", "causes", "denied"]

_CAUSES_MAX: Final = 8


class EngineRefused(SandboxError):
    """Raised when the engine answered, and the answer was no."""

    code = "engine-refused"
    title = "The container engine refused"

    def __init__(self, detail: str = "", *, engine_status: int | None = None, **extra: str | int | bool | None) -> None:
        # Known only to whoever heard the answer: read back from a problem document, the error says no more than that.
        status = {} if engine_status is None else {"engine_status": engine_status}
        super().__init__(detail, **status, **extra)
        self.engine_status = engine_status


class EngineUnreachable(SandboxUnreachable):
    """Raised when the engine did not answer, not in time, or not in its language: what it did is not known."""

    code = "engine-unreachable"
    title = "The container engine does not answer"


class EngineDenied(EngineUnreachable):
    """Raised when this user may not use the engine's socket: asking again is of no use."""

    code = "engine-denied"
    title = "The container engine may not be used"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give the error and what it came from, by chains or as aiohttp keeps it; at most eight: chains can be circles."""
    for _ in range(_CAUSES_MAX):
        if error is None:
            return
        yield error
        kept = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
        error = kept if isinstance(kept, BaseException) else error.__cause__ or error.__context__


def denied(error: BaseException | None) -> bool:
    """Return whether the system did not let us ask; the client's library wraps what it was told, sometimes twice."""
    return any(isinstance(each, OSError) and each.errno in (errno.EACCES, errno.EPERM) for each in causes(error))
