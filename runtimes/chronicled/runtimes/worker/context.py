"""What all sessions of a worker share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from chronicled.events.clock import Clock
from chronicled.events.codec import Codec
from chronicled.events.disk import Disk
from chronicled.events.ids import IdSource, Randomness
from chronicled.events.redaction import Redaction
from chronicled.events.worker_log import WorkerLog
from chronicled.runtimes.output.live import OutputBoard
from chronicled.runtimes.runtime import Runtime
from chronicled.runtimes.worker.journal import Journal
from chronicled.runtimes.worker.link import Listen
from chronicled.runtimes.worker.settings import Directories, WorkerSettings
from chronicled.runtimes.worker.timers import Timers
from chronicled.runtimes.worker.warm import Pool

__all__ = ["Context"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts and bounds that the sessions of one worker share."""

    log: WorkerLog
    runtimes: Mapping[str, Runtime]
    directories: Directories
    settings: WorkerSettings
    codec: Codec
    clock: Clock
    ids: IdSource
    randomness: Randomness
    disk: Disk
    redaction: Redaction
    journal: Journal
    timers: Timers
    board: OutputBoard
    listen: Listen
    starts: CapacityLimiter
    """Bounds sandboxes that start side by side."""
    threads: CapacityLimiter
    """Bounds the threads that move output."""
    pool: Pool
    """Where a session may find a sandbox that is there already."""
    sandboxes: set[str] = field(default_factory=set[str])
    """Sandboxes that must not be swept: those of this worker's sessions, from before they are started."""
