"""Golden logs: whole data directories' logs that released code wrote, which every later version must open and verify.

`python -m tests.golden.logs` writes the log of the current schema step if there is none yet; it never overwrites one.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from tests.golden.examples import example

from chronicled.events import Append, Codec, builtin_registry
from chronicled.events.clock import SystemClock
from chronicled.events.kinds.lifecycle import SessionCreated
from chronicled.storage.log_schema import LOG_STEPS
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

LOGS = Path(__file__).parent / "logs"


class FixedClock(SystemClock):
    """A clock that stands at one instant."""

    def now_us(self) -> int:
        """Return 2026-01-01 00:00 UTC."""
        return 1_767_225_600_000_000


def golden_log(step: int) -> Path:
    """Return where the golden log of a schema step stands."""
    return LOGS / f"step-{step}.sqlite"


async def write(path: Path) -> None:
    """Write a log with one event of each kind at its current version, in one session."""
    registry = builtin_registry()
    codec = Codec(registry)
    async with await SqliteStore.open(path, clock=FixedClock()) as store:
        numbers = iter(range(1, 1000))

        def id() -> str:
            return f"01900000-0000-7000-8000-{next(numbers):012d}"

        created = codec.draft(
            "lifecycle",
            "session_created",
            SessionCreated(runtime="process"),
            tenant="default",
            session="golden",
            id=id(),
        )
        await store.append(Append((created,), create=True))
        drafts = [
            codec.draft(
                spec.category,
                spec.kind,
                example(spec),
                tenant="default",
                session="golden",
                id=id(),
                cause=created.id[:-12] + f"{900 + index:012d}" if spec.terminal else None,
                source="worker",
            )
            for index, spec in enumerate(registry)
            if spec.version == registry.current(spec.category, spec.kind).version and spec.kind != "session_created"
        ]
        await store.append(Append(tuple(drafts)))


def main() -> None:
    """Write the golden log of the current schema step, if there is none."""
    target = golden_log(len(LOG_STEPS))
    if target.exists():
        return
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(write(Path(directory) / LOG_NAME))
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(directory) / LOG_NAME, target)


if __name__ == "__main__":
    main()
