"""Which containers there must be: those of the log's sandboxes, and what is foreign; and which there are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from tests.chaos.containers import Containers, Found
from tests.crash.ledger import Ledger
from tests.engine.fixture import MUSL

__all__ = ["Inventory", "LookAlikes"]

INSTANCE = "chronicled.instance"
SANDBOX = "chronicled.sandbox"
POSITION = "chronicled.position"
GENERATION = "chronicled.generation"
FAR_POSITION = 1 << 40
"""Above every head: only a log that this one was copied from can have given it."""


class LookAlikes:
    """Five containers that look like the product's and are not, and one orphan that looks like it and is.

    Args:
        containers: Where they are made.
    """

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self.foreign: dict[str, str] = {}
        """What it is, by its id."""

    async def make(self, example: Mapping[str, str]) -> None:
        """Make them, after the labels of a sandbox of the product's."""
        half = {name: example[name] for name in (INSTANCE, SANDBOX)}
        copied = {**example, SANDBOX: "copied", GENERATION: "copied", POSITION: str(FAR_POSITION)}
        for what, name, labels in (
            ("another instance's", "chronicled-of-another", {**example, INSTANCE: "0" * 32}),
            ("with half of the labels", "chronicled-half", half),
            ("of a copied data directory", "chronicled-copied", copied),
            ("with a name of ours and no label", "chronicled-01a1fd00-0000-7000-8000-000000000000", {}),
            ("without anything", "innocent", {}),
        ):
            self.foreign[await self._create(name, labels)] = what

    async def make_orphan(self, example: Mapping[str, str], name: str) -> None:
        """Make a container of the product's that its log does not know: a crash in the middle of a start leaves one."""
        await self._create(name, {**example, SANDBOX: name, GENERATION: name, POSITION: "1"})

    async def start(self) -> None:
        """Start the foreign ones: from here on they run, or somebody has touched them."""
        for container in self.foreign:
            with contextlib.suppress(AssertionError):
                await self._containers.docker("start", container)

    def touched(self, found: list[Found]) -> list[str]:
        """Return what became of those that do not run any more."""
        states = {each.id: each.state for each in found}
        return [
            f"foreign container touched: the one {what} is {states.get(container, 'gone')}"
            for container, what in self.foreign.items()
            if states.get(container) != "running"
        ]

    async def _create(self, name: str, labels: Mapping[str, str]) -> str:
        words = [word for label, value in labels.items() for word in ("--label", f"{label}={value}")]
        return await self._containers.docker(
            "create", "--network=none", "--name", name, *words, MUSL, "sleep", "100000"
        )


class Inventory:
    """Compares the engine's containers with what the log says, and with what was planted beside them.

    Args:
        containers: The engine's.
        ledger: What the log has said so far.
    """

    def __init__(self, containers: Containers, ledger: Ledger) -> None:
        self._containers = containers
        self._ledger = ledger
        self._look_alikes = LookAlikes(containers)
        self._labels: Mapping[str, str] = {}
        self.orphans = 0
        """Containers that were planted as a crash in the middle of a start leaves them, and have to go."""

    async def plant(self) -> None:
        """Put look-alikes, and an orphan, beside a sandbox that lives."""
        found = await self._containers.all()
        self._labels = next(each.labels for each in found if each.labels.get(GENERATION) in self._ledger.alive)
        await self._look_alikes.make(self._labels)
        await self._orphan("orphan-early")

    async def set_out(self) -> None:
        """Start what is foreign, so that its end would be seen, and plant another orphan."""
        await self._look_alikes.start()
        await self._orphan("orphan-late")

    async def _orphan(self, name: str) -> None:
        await self._look_alikes.make_orphan(self._labels, name)
        self.orphans += 1

    async def wrong(self, seconds: float) -> list[str]:
        """Wait until the engine has what it must have; return what is still wrong after so long."""
        end = time.monotonic() + seconds
        while wrong := self._differences(await self._containers.all()):
            if time.monotonic() > end:
                return wrong
            await asyncio.sleep(0.1)
        return []

    async def touched(self) -> list[str]:
        """Return what became of foreign containers that do not run any more."""
        return self._look_alikes.touched(await self._containers.all())

    def _differences(self, found: list[Found]) -> list[str]:
        ours = [each for each in found if each.id not in self._look_alikes.foreign]
        wanted = sorted(self._ledger.generations[name].payload["sandbox"] for name in self._ledger.alive)
        running = sorted(each.labels.get(SANDBOX, "") for each in ours if each.state == "running")
        others = [each for each in ours if each.state != "running"]
        return [
            *([f"containers are not those expected: {running} run, not {wanted}"] if running != wanted else []),
            *(f"container left behind: {each.labels.get(SANDBOX)} is {each.state}" for each in others),
        ]
