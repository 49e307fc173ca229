"""What every runnable action carries, and the types of common fields."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chronicled.events.kind import Payload

__all__ = ["Path", "Runnable", "Seconds", "VariableName"]

Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
VariableName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
SecurityRisk = Literal["unknown", "low", "medium", "high"]


class Runnable(Payload, frozen=True, kw_only=True):
    """What every runnable action may carry."""

    timeout_seconds: Seconds | None = None
    """Command deadline; None takes the daemon's default."""
    queue_seconds: Seconds | None = None
    """How long it may wait for its turn before it ends `rejected`."""
    on_state_loss: Literal["reject", "run"] = "reject"
    """What becomes of it if the sandbox (or its lane's shell) is lost before it ran."""
    thought: str = ""
    security_risk: SecurityRisk = "unknown"
