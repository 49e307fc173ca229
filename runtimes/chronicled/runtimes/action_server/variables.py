"""Environment variables of a session that come while its sandbox runs: one set for every lane, old and new."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["READ_ONLY", "SessionVariables"]

READ_ONLY: Final = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})
"""What bash does not let anybody set."""
VALUE_BYTES_MAX: Final = 120 << 10
"""The kernel takes no longer string in an environment than 128 KiB."""
TOTAL_BYTES_MAX: Final = 512 << 10
"""With more than this, programs could not be started any more."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")


class SessionVariables:
    """What was set and unset since the generation began, newest word per name."""

    def __init__(self) -> None:
        self.changes = 0
        """How many changes there were; the place to ask `since` with."""
        self._values: dict[bytes, tuple[int, bytes | None]] = {}

    def update(self, variables: Mapping[str, str | None]) -> list[str]:
        """Set variables, or unset those that are None; return the names of those that nobody could use.

        That is: no name, bash's own, NUL in it, or too large.
        """
        refused: list[str] = []
        for name, value in variables.items():
            data = None if value is None else value.encode(errors="surrogateescape")
            if _NAME.fullmatch(name) is None or name in READ_ONLY or not self._fits(name.encode(), data):
                refused.append(name)
                continue
            self.changes += 1
            # At the end again: the order is that of the changes.
            self._values.pop(name.encode(), None)
            self._values[name.encode()] = (self.changes, data)
        return refused

    def since(self, changes: int) -> dict[bytes, bytes | None]:
        """Return what changed after the first so many changes."""
        if changes == self.changes:
            return {}
        return {name: value for name, (at, value) in self._values.items() if at > changes}

    def applied(self, environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the environment with everything set and unset."""
        result = dict(environment)
        for name, (_, value) in self._values.items():
            if value is None:
                result.pop(name, None)
            else:
                result[name] = value
        return result

    def _fits(self, name: bytes, value: bytes | None) -> bool:
        if value is None:
            return name in self._values or len(self._values) < 4096
        others = sum(len(each) + len(old or b"") + 2 for each, (_, old) in self._values.items() if each != name)
        return (
            b"\0" not in value and len(value) <= VALUE_BYTES_MAX and others + len(name) + len(value) <= TOTAL_BYTES_MAX
        )
