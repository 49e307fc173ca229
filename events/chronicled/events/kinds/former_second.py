"""Second versions of payloads that have a later one, as events of them stand in logs for ever. Nothing here may change.

A module of their own, since a struct keeps its name through all versions.
"""

from __future__ import annotations

from chronicled.events.kind import Payload

__all__ = ["GenerationStarted"]


class GenerationStarted(Payload, frozen=True, kw_only=True):
    """An action server reported in: one generation begins."""

    sandbox: str
    generation: str
    runtime: str
    boot_id: str
    handle: dict[str, str | int]
    """What the runtime needs to find it again, e.g. pid and start time."""
    kinds: list[str]
    """Kinds of action that it can run."""
    start_seconds: float
    """From the request to the handshake; `phases` says where it went."""
    phases: dict[str, float] = {}
    """Seconds of each phase of the start, e.g. `queue`, `pull`, `create`, `start`, `ready`."""
    image_digest: str | None = None
    """What the image's name stood for."""
    warm: bool = False
    """It was started ahead of need, and taken from the pool."""
