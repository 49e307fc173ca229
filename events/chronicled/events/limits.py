"""Limits, each with its unit in its name. The daemon's configuration can lower or raise those that are settings."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BATCH_BYTES_MAX",
    "BATCH_EVENTS_MAX",
    "BODY_BYTES_MAX",
    "DOWNLOAD_BYTES_MAX",
    "FRAME_BYTES_MAX",
    "OUTPUT_BYTES_MAX",
    "OUTPUT_INLINE_BYTES_MAX",
    "PAGE_EVENTS_DEFAULT",
    "PAGE_EVENTS_MAX",
    "PART_BYTES_MAX",
    "PART_HEAD_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "PROGRESS_BYTES_MAX",
    "PROGRESS_COUNT_MAX",
    "PROGRESS_INTERVAL_SECONDS",
    "QUEUE_BYTES_MAX",
    "QUEUE_EVENTS_MAX",
    "UPLOAD_BYTES_MAX",
]

BATCH_EVENTS_MAX: Final = 512
"""Most events in one commit (design D2)."""
BATCH_BYTES_MAX: Final = 1 << 20
"""Most payload bytes in one commit, unless a single event is larger."""
QUEUE_EVENTS_MAX: Final = 8192
"""Most events that may wait for a commit; more are refused as `overloaded`."""
QUEUE_BYTES_MAX: Final = 16 << 20
"""Most payload bytes that may wait for a commit."""
PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Largest payload of one event, encoded."""
PART_BYTES_MAX: Final = 64 << 10
"""Largest encoded payload that is stored as it is; the parts of a larger one become blobs (design D13)."""
PART_HEAD_BYTES_MAX: Final = 8 << 10
"""How much of such a part stays in the payload as its head, encoded."""
BODY_BYTES_MAX: Final = 8 << 20
"""Largest HTTP request body."""
UPLOAD_BYTES_MAX: Final = 1 << 30
"""Largest file or archive that is uploaded in one action."""
DOWNLOAD_BYTES_MAX: Final = 1 << 30
"""Largest file or archive that is downloaded in one action."""
PAGE_EVENTS_DEFAULT: Final = 100
PAGE_EVENTS_MAX: Final = 1000
FRAME_BYTES_MAX: Final = 2 << 20
"""Largest frame between worker and action server."""
OUTPUT_BYTES_MAX: Final = 256 << 20
"""Most output kept of one action; what follows is counted and dropped."""
OUTPUT_INLINE_BYTES_MAX: Final = 32 << 10
"""Most output that stands in an observation itself, encoded."""
PROGRESS_BYTES_MAX: Final = 4 << 10
PROGRESS_COUNT_MAX: Final = 64
PROGRESS_INTERVAL_SECONDS: Final = 1.0
