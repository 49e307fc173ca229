"""What can go wrong with an engine."""

from __future__ import annotations

from chronicled.events.errors import SandboxError, SandboxUnreachable

__all__ = ["EngineRefused", "EngineUnreachable"]


class EngineRefused(SandboxError):
    """Raised when the engine answered, and the answer was no."""

    code = "engine-refused"
    title = "The container engine refused"

    def __init__(self, detail: str = "", *, status: int = 500) -> None:
        super().__init__(detail, engine_status=status)
        self.engine_status = status


class EngineUnreachable(SandboxUnreachable):
    """Raised when the engine did not answer, not in time, or not in its language: what it did is not known."""

    code = "engine-unreachable"
    title = "The container engine does not answer"
