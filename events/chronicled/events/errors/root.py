"""The root of all errors, and what finds one by its code."""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ChronicledError",
    "errors_by_code",
]


class ChronicledError(Exception):
    """Root of every error of ours; catch it to catch all of them.

    Args:
        detail: What happened and what to do about it, one sentence, without secrets.
        extra: Machine-readable members that the problem document carries beside the standard ones.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed inside chronicled"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", **extra: str | int | bool | None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extra = extra


def errors_by_code() -> dict[str, type[ChronicledError]]:
    """Return every error class by its `code`, for a client that turns problem documents back into errors."""
    found: dict[str, type[ChronicledError]] = {}
    waiting: list[type[ChronicledError]] = [ChronicledError]
    while waiting:
        error = waiting.pop()
        found[error.code] = error
        waiting.extend(error.__subclasses__())
    return found
