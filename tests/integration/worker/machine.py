"""A worker over a store in memory and the real process runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from tests.unit.worker.world import World

from chronicled.events.clock import SystemClock
from chronicled.runtimes.action_server.frames import Transfer
from chronicled.runtimes.process import ProcessRuntime
from chronicled.runtimes.worker.settings import WorkerSettings
from chronicled.runtimes.worker.worker import Worker
from chronicled.storage.disk import SystemDisk
from chronicled.storage.memory import MemoryStore

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Machine(World):
    """The world of the unit tests with real sandboxes in it; whatever lives at its end is swept."""

    transfers: ClassVar[tuple[Transfer, ...]] = ("descriptors", "inband")

    def __init__(self, root: Path, store: MemoryStore) -> None:
        super().__init__(root, store)
        self.runtime = ProcessRuntime(self.directories.sandboxes, transfers=self.transfers)

    def worker(self, log: Any = None, disk: Any = None, **settings: Any) -> Worker:
        """Return a worker over the process runtime."""
        return Worker(
            log or self.log,
            {"process": self.runtime},
            self.directories,
            WorkerSettings(name="tester", boot_id=BOOT_ID, **settings),
            self.codec,
            SystemClock(),
            self.ids,
            disk or SystemDisk(),
            self.redaction,
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path) -> AsyncGenerator[Machine]:
        """Open a machine; no sandbox outlives it."""
        async with super().open(root) as world:
            assert isinstance(world, Machine)
            try:
                yield world
            finally:
                await world.runtime.sweep(())
