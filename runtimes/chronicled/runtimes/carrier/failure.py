"""What making or checking a carrier fails with."""

from __future__ import annotations

from chronicled.events.errors import SandboxError

__all__ = ["CarrierCorrupt", "CarrierFailed"]


class CarrierFailed(SandboxError):
    """Raised when a carrier cannot be made here; the detail says what is missing and what to do."""

    code = "carrier-failed"
    title = "The carrier could not be made"


class CarrierCorrupt(SandboxError):
    """Raised when a carrier is not what its digest says; remove the folder and build it again."""

    code = "carrier-corrupt"
    title = "The carrier does not verify"
