"""The steps of which the cases of the shell table are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["ALIVE", "ANY", "Step", "like"]


class Step(NamedTuple):
    """One command and how it must end: exit code (None: killed by a signal), and output, exact or a pattern."""

    command: str
    code: int | None = 0
    output: bytes | re.Pattern[bytes] = b""
    restarted: bool = False
    options: Mapping[str, Any] = MappingProxyType({})


def like(pattern: bytes) -> re.Pattern[bytes]:
    """Return a pattern in which a dot is any byte."""
    return re.compile(pattern, re.DOTALL)


ANY = like(b".*")
ALIVE = Step("echo alive", output=b"alive\n")
