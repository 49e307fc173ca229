"""The product's store in a process of its own, to be hit by faults: appends and says what was acked.

    python -m tests.faults.appender LOG COUNT [broken|reserve|reopen|copying]

It writes each acked id as a line to its standard output before it goes on; it ends with 0 when all were acked, and with
3 when the store has failed. `broken` says that a batch is written before it is: the negative control. `reserve` fills
the disk (its quota) while actions run, and checks what can still be written. `reopen` opens a log without room for its
reserve, and checks the same. `copying` has the write-ahead log copied into the database all the time.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from chronicled.events.errors import ChronicledError, StorageFull
from chronicled.events.ids import SystemIds
from chronicled.events.store import Append
from chronicled.storage import sqlite_medium
from chronicled.storage.medium import Batch
from chronicled.storage.sqlite import SqliteStore
from chronicled.storage.sqlite_medium import SqliteMedium
from chronicled.storage.testing_drafts import DraftMaker

FAILED = 3
TASKS = 4


def break_it() -> None:
    """Ack before the commit: what fails is not noticed by those who wait."""
    medium: Any = SqliteMedium
    write = medium.write

    async def promise(self: SqliteMedium, batch: Batch) -> None:
        try:
            await write(self, batch)
        except ChronicledError:
            return

    medium.write = promise


def acked(id: str) -> None:
    """Tell the test, unbuffered."""
    os.write(1, f"{id}\n".encode())


async def run(path: Path, count: int) -> None:
    """Append from some tasks; a full disk is waited out, for at most a minute."""
    make = DraftMaker()
    async with await SqliteStore.open(path, reserve_bytes=1 << 20) as store:
        if (armed := os.environ.get("FAULT_AFTER")) is not None:
            os.close(os.open(armed, os.O_CREAT | os.O_WRONLY, 0o600))
        create = make.create("s")
        await store.append(create)
        acked(create.drafts[0].id)

        async def client() -> None:
            for number in range(count // TASKS):
                action = make.action("s", "x" * (number * 37 % 3000), fresh=False)
                for _ in range(6000):
                    try:
                        await store.append(Append((action,)))
                    except StorageFull:
                        await asyncio.sleep(0.01)
                    else:
                        acked(action.id)
                        break

        await asyncio.gather(*(client() for _ in range(TASKS)))


async def reopen(path: Path) -> None:
    """Open the log that an appender left behind on a full disk; append what may use the reserve, and only that."""
    async with await SqliteStore.open(path, reserve_bytes=1 << 20) as store:
        assert await refused(store, Append((DraftMaker().action("s"),)))
        draft = msgspec.structs.replace(DraftMaker().claimed("s"), id=SystemIds().new())
        await store.append(Append((draft,)))
        acked(draft.id)


def limit(size: int) -> None:
    """Say how many bytes the disk holds."""
    Path(os.environ["FAULT_QUOTA"]).write_text(str(size))


async def refused(store: SqliteStore, request: Append) -> bool:
    """Tell whether the store says that the disk is full."""
    try:
        await store.append(request)
    except StorageFull:
        return True
    return False


async def fill(path: Path, count: int) -> None:
    """Submit actions, fill the disk, end them all the same, make room, go on."""
    make = DraftMaker()
    async with await SqliteStore.open(path, reserve_bytes=1 << 20) as store:
        await store.append(make.create("s"))
        actions = [make.action("s") for _ in range(count)]
        await store.append(Append(tuple(actions)))
        used = sum(entry.stat().st_size for entry in os.scandir(path.parent) if not entry.name.endswith("-shm"))
        limit(used)
        for _ in range(1000):  # the write-ahead log has room of its own for a while
            if await refused(store, Append((make.action("s", "x" * 10_000),))):
                break
        for action in actions:
            terminal = make.terminal("s", action.id)
            await store.append(Append((terminal,)))
            acked(terminal.id)
            assert await refused(store, Append((make.action("s", "x" * 10_000),)))
        lifecycle = make.claimed("s")
        await store.append(Append((lifecycle,)))
        acked(lifecycle.id)
        limit(1 << 30)
        action = make.action("s")
        await store.append(Append((action,)))
        acked(action.id)


def main() -> int:
    """Run; return the exit code."""
    path, count, *mode = sys.argv[1:]
    if mode == ["broken"]:
        break_it()
    if mode == ["copying"]:
        constants: Any = sqlite_medium
        constants.WAL_PAGES_MAX = 20
    try:
        if mode == ["reopen"]:
            asyncio.run(reopen(Path(path)))
        else:
            asyncio.run((fill if mode == ["reserve"] else run)(Path(path), int(count)))
    except ChronicledError as error:
        print(error.code, file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
