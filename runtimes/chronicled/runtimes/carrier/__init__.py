"""The carrier: a read-only tree with an interpreter and the action server, mounted at `/.chronicled` into any image.

`recipe` says what goes in and why, `base` makes the interpreter's part, `code` ours, `carrier` puts both together.
"""

from __future__ import annotations

from chronicled.runtimes.carrier.archive import carrier_archive
from chronicled.runtimes.carrier.carrier import Carrier, carriers, ensure_carrier
from chronicled.runtimes.carrier.failure import CarrierCorrupt, CarrierFailed
from chronicled.runtimes.carrier.listing import verify
from chronicled.runtimes.carrier.recipe import MOUNT_PATH

__all__ = [
    "MOUNT_PATH",
    "Carrier",
    "CarrierCorrupt",
    "CarrierFailed",
    "carrier_archive",
    "carriers",
    "ensure_carrier",
    "verify",
]
