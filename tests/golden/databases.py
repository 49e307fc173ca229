"""Golden databases: a log of 8,300 events as each step of the schema had it, packed; they never change.

Every later version must bring each of them to its own schema. `python -m tests.golden.databases` writes that of the
newest step, once, if there is none.
"""

from __future__ import annotations

import asyncio
import lzma
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from chronicled.events.clock import SystemClock
from chronicled.events.ids import id_text
from chronicled.events.store import Append
from chronicled.storage.log_schema import LOG_STEPS
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker

DATABASES = Path(__file__).parent / "databases"
EVENTS = 8_300
SESSIONS = 7


class StandingClock(SystemClock):
    """A clock that stands at one instant."""

    def now_us(self) -> int:
        """Return 2026-01-01 00:00 UTC."""
        return 1_767_225_600_000_000


class Zeros:
    """Randomness that is none: what is made with it packs well."""

    def bytes(self, count: int) -> bytes:
        """Return zeros."""
        return bytes(count)


class Numbered:
    """Ids in a row."""

    def __init__(self) -> None:
        self._number = 0

    def new(self) -> str:
        """Return the next one."""
        self._number += 1
        return id_text((0x0190_0000_0000_7000_8000 << 48 | self._number).to_bytes(16, "big"))


async def write(path: Path, events: int = EVENTS) -> None:
    """Write a log of so many events, most of them actions and their ends, now and then something rare."""
    maker = DraftMaker()
    maker.ids = Numbered()  # type: ignore[assignment]  # as `SystemIds` for all that is asked of it here
    async with await SqliteStore.open(path, clock=StandingClock(), randomness=Zeros(), ids=Numbered()) as store:
        for number in range(SESSIONS):
            await store.append(maker.create(f"session-{number}"))
        while store.head < events:
            drafts = [maker.claimed(f"session-{store.head % SESSIONS}")] if store.head % 1000 < 200 else []
            for number in range(100):
                session = f"session-{(store.head + number) % SESSIONS}"
                action = maker.action(session, f"make target-{number}")
                drafts += [action, maker.terminal(session, action.id)]
            drafts = drafts[: events - store.head]
            if drafts[-1].source == "client":  # an action without its end: nothing stays open
                drafts[-1] = maker.claimed(drafts[-1].session)
            await store.append(Append(tuple(drafts)))


def take_back(path: Path, step: int) -> None:
    """Make of a closed log what a program of that step would have written."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if step < 2:
            connection.execute("DROP TABLE segment_label")
        connection.execute("DELETE FROM schema_step WHERE number > ?", (step,))
        connection.execute("VACUUM")


def golden_databases() -> list[Path]:
    """Return the packed databases, the oldest first."""
    return sorted(DATABASES.glob("step-*.sqlite.xz"))


def unpack(golden: Path, path: Path) -> None:
    """Make a golden database the log at `path`."""
    path.write_bytes(lzma.decompress(golden.read_bytes()))
    path.chmod(0o600)


def main() -> None:
    """Write the golden database of each step that has none."""
    DATABASES.mkdir(exist_ok=True)
    for step in LOG_STEPS:
        target = DATABASES / f"step-{step.number}.sqlite.xz"
        if not target.exists():
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory) / LOG_NAME
                asyncio.run(write(path))
                take_back(path, step.number)
                target.write_bytes(lzma.compress(path.read_bytes(), preset=9))


if __name__ == "__main__":
    main()
