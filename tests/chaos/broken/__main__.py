"""Start a daemon with one guarantee taken out: `python -m tests.chaos.broken CONTROL serve ARGUMENTS...`.

The product has no setting for this, and must not have one: what is patched here are its private parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.crash.broken.__main__ import journal_off

from chronicled import cli
from chronicled.events.errors import SandboxUnreachable
from chronicled.runtimes.docker import carriage, labels
from chronicled.runtimes.docker.container import State
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.docker.sandbox import Life
from chronicled.runtimes.worker import places

BOOTSTRAP = "lib/site/chronicled/runtimes/action_server/bootstrap.py"
LATE_SECONDS = 8.0


def _forgetful_copy(carrier: Path) -> Path:
    # Beside the data, so that it goes with them. Links: the copy costs no room, and the original stays whole.
    copy = carrier.parents[1] / "forgetful"
    if not copy.exists():
        tree = Path(tempfile.mkdtemp(dir=copy.parent)) / "tree"
        subprocess.run(["cp", "-al", carrier, tree], check=True)
        own = tree / BOOTSTRAP
        os.chmod(own.parent, 0o755)
        own.rename(own.with_name("whole_bootstrap.py"))
        shutil.copyfile(Path(__file__).with_name("bootstrap.py"), own)
        with contextlib.suppress(OSError):  # another sandbox's start was faster
            tree.rename(copy)
    return copy


def dedupe_off() -> None:
    """The action server forgets every id as soon as it has taken it: see the bootstrap beside this file."""
    broken: Any = carriage.CarrierDirectory
    mount = broken.mount

    async def forgetful(directory: Any, *arguments: Any) -> Any:
        whole = await mount(directory, *arguments)
        copy = await asyncio.to_thread(_forgetful_copy, Path(whole.source))
        return msgspec.structs.replace(whole, source=str(copy), identity=None)

    broken.mount = forgetful


def sweep_off() -> None:
    """Nobody compares what the engine holds with what the log knows."""
    broken: Any = DockerRuntime

    async def see_nothing(*_: object) -> Sequence[str]:
        return []

    broken.sweep = see_nothing


def position_ignored() -> None:
    """A sweep takes what stands above the log's head for its own."""
    broken: Any = DockerRuntime
    sweep = broken.sweep

    async def see_no_head(runtime: DockerRuntime, known: Collection[str], _head: int = 0) -> Sequence[str]:
        removed: Sequence[str] = await sweep(runtime, known, 1 << 62)
        return removed

    broken.sweep = see_no_head


def labels_ignored() -> None:
    """A container counts as this instance's by two of its labels."""
    broken: Any = labels

    def believe(found: Mapping[str, str]) -> labels.Owner | None:
        if labels.INSTANCE not in found or labels.SANDBOX not in found:
            return None
        position = found.get(labels.POSITION, "0")
        return labels.Owner(found[labels.INSTANCE], found[labels.SANDBOX], int(position))

    broken.owner_of = believe


def instance_ignored() -> None:
    """A sweep takes every instance's containers for this one's."""
    broken: Any = DockerRuntime

    async def take_all(runtime: Any, *further: str) -> dict[str, labels.Owner]:
        found = await runtime.engine.containers(labels.INSTANCE, *further)
        owners = {each["Id"]: labels.owner_of(each["Labels"]) for each in found}
        return {container: owner for container, owner in owners.items() if owner is not None}

    broken._containers = take_all


def memory_ignored() -> None:
    """A sweep forgets what the log knows, so that it takes living sandboxes for orphans."""
    broken: Any = DockerRuntime
    sweep = broken.sweep

    async def know_nothing(runtime: DockerRuntime, _known: Collection[str], head: int = 0) -> Sequence[str]:
        removed: Sequence[str] = await sweep(runtime, set(), head)
        return removed

    broken.sweep = know_nothing


def deaf() -> None:
    """Deaths of containers are noticed, but late."""
    broken: Any = Life
    ended = broken.ended
    since: dict[str, float] = {}

    async def hesitate(life: Life) -> State | None:
        state: State | None = await ended(life)
        if state is None or time.monotonic() > since.setdefault(life.container, time.monotonic()) + LATE_SECONDS:
            return state
        raise SandboxUnreachable("It is not believed yet.")

    broken.ended = hesitate


def folders_left() -> None:
    """Nobody removes what sandboxes have left on the disk."""
    broken: Any = places

    def pretend(_path: str) -> bool:
        return True

    broken.remove_tree = pretend


def silence_is_death() -> None:
    """A container counts as dead when the engine does not answer."""
    broken: Any = Life
    ended = broken.ended

    async def presume(life: Life) -> State | None:
        try:
            state: State | None = await ended(life)
            return state
        except SandboxUnreachable:
            return State(status="removed")

    broken.ended = presume


CONTROLS: dict[str, Callable[[], None]] = {
    "deaf": deaf,
    "dedupe_off": dedupe_off,
    "folders_left": folders_left,
    "instance_ignored": instance_ignored,
    "journal_off": journal_off,
    "labels_ignored": labels_ignored,
    "memory_ignored": memory_ignored,
    "position_ignored": position_ignored,
    "silence_is_death": silence_is_death,
    "sweep_off": sweep_off,
}


def main() -> int:
    """Take the guarantee out, then be the product."""
    CONTROLS[sys.argv.pop(1)]()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
