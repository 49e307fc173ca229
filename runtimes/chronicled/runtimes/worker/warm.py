"""A sandbox that waits for a session, and where a session finds one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anyio
import msgspec

from chronicled.events.kinds.lifecycle import SessionCreated
from chronicled.runtimes.runtime import Sandbox

__all__ = ["NoPool", "Pool", "Warm"]


class Warm(msgspec.Struct, kw_only=True):
    """A sandbox that waits: started, its server has shaken hands, nothing of an agent's has run in it."""

    sandbox_id: str
    generation_id: str
    token: str
    sandbox: Sandbox
    kinds: Sequence[str]
    boot_id: str
    taken: anyio.Event
    """Set by who takes it, once it listens on the sandbox's socket itself: the server then dials anew."""


class Pool(Protocol):
    """Where a session may find a sandbox that is there already."""

    def take(self, created: SessionCreated, pin: str | None) -> Warm | None:
        """Return a sandbox that is what the session would be given, or None. It is the caller's from then on."""
        ...


class NoPool:
    """A pool that never has any."""

    def take(self, created: SessionCreated, pin: str | None) -> Warm | None:
        """Return None."""
        return None
