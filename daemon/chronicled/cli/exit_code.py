"""Exit codes of the command line, and the error to each."""

from __future__ import annotations

from typing import Final

from chronicled.events.errors import ChronicledError, ConfigurationError, InvalidRequest, NotReachable

__all__ = [
    "ACTION_FAILED",
    "BROKEN_PIPE",
    "CANCELLED",
    "KILLED",
    "NOT_REACHABLE",
    "OK",
    "OURS",
    "REFUSED",
    "TIMEOUT",
    "USAGE",
    "exit_code_of",
]

OK: Final = 0
ACTION_FAILED: Final = 1
USAGE: Final = 2
NOT_REACHABLE: Final = 3
REFUSED: Final = 4
TIMEOUT: Final = 124
BROKEN_PIPE: Final = 141
"""As a shell shows SIGPIPE: whoever read us is gone."""
CANCELLED: Final = 130
"""As a shell shows Ctrl-C."""
KILLED: Final = 137
"""As a shell shows SIGKILL."""
OURS: Final = 125
"""`run` ends with this where the failure is ours and not the command's."""


def exit_code_of(error: ChronicledError) -> int:
    """Return the exit code for an error: 2 what was typed is wrong, 3 no daemon, 4 it said no."""
    if isinstance(error, NotReachable):
        return NOT_REACHABLE
    if isinstance(error, InvalidRequest | ConfigurationError):
        return USAGE
    return REFUSED
