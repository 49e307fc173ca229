"""What can go wrong with an engine."""

from __future__ import annotations

from chronicled.events.errors import SandboxError, SandboxUnreachable

__all__ = ["EngineRefused", "EngineUnreachable"]


class EngineRefused(SandboxError):
    """Raised when the engine answered, and the answer was no."""

    code = "engine-refused"
    title = "The container engine refused"

    def __init__(self, detail: str = "", *, engine_status: int = 500, **extra: str | int | bool | None) -> None:
        super().__init__(detail, engine_status=engine_status, **extra)
        self.engine_status = engine_status


class EngineUnreachable(SandboxUnreachable):
    """Raised when the engine did not answer, not in time, or not in its language: what it did is not known."""

    code = "engine-unreachable"
    title = "The container engine does not answer"
