"""Golden logs: whole data directories' logs that released code wrote, which every later version must open and verify.

`step-N.sqlite` was written by released code and never changes. `next.sqlite` has what came since: each kind at its
current version. `python -m tests.golden.logs` writes it anew if a kind is missing there; a release renames it.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

from tests.golden.examples import example

from chronicled.events import Append, Codec, builtin_registry
from chronicled.events.clock import SystemClock
from chronicled.events.envelope import CATEGORIES
from chronicled.events.kinds.lifecycle import SessionCreated
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

LOGS = Path(__file__).parent / "logs"


class FixedClock(SystemClock):
    """A clock that stands at one instant."""

    def now_us(self) -> int:
        """Return 2026-01-01 00:00 UTC."""
        return 1_767_225_600_000_000


NEXT = LOGS / "next.sqlite"


def golden_logs() -> list[Path]:
    """Return all golden logs."""
    return sorted(LOGS.glob("*.sqlite"))


def held(path: Path) -> set[tuple[str, str, int]]:
    """Return category, kind and version of everything that a log holds."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        rows = connection.execute("SELECT DISTINCT category, kind, version FROM event JOIN label ON label = number")
        return {(CATEGORIES[category - 1], kind, version) for category, kind, version in rows}


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


def missing() -> set[tuple[str, str, int]]:
    """Return the kinds of today that no golden log has at their current version."""
    registry = builtin_registry()
    newest = (registry.current(spec.category, spec.kind) for spec in registry)
    current: set[tuple[str, str, int]] = {(spec.category, spec.kind, spec.version) for spec in newest}
    return current.difference(*(held(path) for path in golden_logs()))


def main() -> None:
    """Write the golden log of what is not released yet, unless the logs have every kind already."""
    if not missing():
        return
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(write(Path(directory) / LOG_NAME))
        shutil.copyfile(Path(directory) / LOG_NAME, NEXT)


if __name__ == "__main__":
    main()
