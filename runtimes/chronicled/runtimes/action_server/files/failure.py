"""What goes wrong with files, as a stable word and a sentence."""

from __future__ import annotations

import errno
from typing import Any, Final

__all__ = ["BadArguments", "FileFailure", "reason_of"]

_REASONS: Final[dict[int, str]] = {
    errno.ENOENT: "not_found",
    errno.EACCES: "not_permitted",
    errno.EPERM: "not_permitted",
    errno.EISDIR: "is_a_directory",
    errno.ENOTDIR: "not_a_directory",
    errno.EEXIST: "exists",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.EROFS: "read_only",
    errno.ELOOP: "link_loop",
    errno.ENAMETOOLONG: "name_too_long",
}


class FileFailure(Exception):
    """Ends an action `failed`: it ran, and what it was asked for cannot be done.

    Args:
        reason: Stable word.
        message: What happened and what to do about it.
        fields: What else the observation tells.
    """

    def __init__(self, reason: str, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.fields = fields


class BadArguments(Exception):
    """Ends an action `error`: it cannot run with what it was given, and did nothing."""


def reason_of(problem: OSError) -> str:
    """Return the stable word for what the system said."""
    return _REASONS.get(problem.errno or 0, "os_error")
