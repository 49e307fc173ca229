"""Start a daemon with one guarantee taken out: `python -m tests.crash.broken CONTROL serve ARGUMENTS...`.

The product has no setting for this, and must not have one: what is patched here are its private parts.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from chronicled import cli
from chronicled.events.lanes import SessionFold
from chronicled.runtimes import process
from chronicled.runtimes.worker.journal import Journal
from chronicled.storage.sqlite_medium import SqliteMedium

COMMIT_LATE_SECONDS = 0.03


def dedupe_off() -> None:
    """The action server forgets every id as soon as it has taken it: see the bootstrap beside this file."""
    runtime: Any = process
    paths = runtime.import_paths()
    runtime.import_paths = lambda: paths
    runtime.bootstrap = SimpleNamespace(__file__=str(Path(__file__).with_name("bootstrap.py")))


def ack_before_commit() -> None:
    """The store says that a batch is on the medium while it is still about to be written."""
    broken: Any = SqliteMedium
    write = broken.write
    late: dict[int, asyncio.Task[None]] = {}

    async def promise(medium: SqliteMedium, batch: Any) -> None:
        earlier = late.get(id(medium))

        async def deliver() -> None:
            if earlier is not None:
                await earlier
            await asyncio.sleep(COMMIT_LATE_SECONDS)
            await write(medium, batch)

        late[id(medium)] = asyncio.create_task(deliver())

    broken.write = promise


def journal_off() -> None:
    """The dispatch journal vouches for a generation, and notes nothing."""
    broken: Any = Journal

    def note_nothing(*_: object) -> None:
        return

    broken.note_dispatch = note_nothing


def state_loss_ignored() -> None:
    """Whatever waited when a generation was lost runs in the next one, in a fresh home, whether it may or not."""
    broken: Any = SessionFold

    def nothing_lost(*_: object) -> bool:
        return False

    broken.state_lost = nothing_lost


CONTROLS: dict[str, Callable[[], None]] = {
    "dedupe_off": dedupe_off,
    "ack_before_commit": ack_before_commit,
    "journal_off": journal_off,
    "state_loss_ignored": state_loss_ignored,
}


def main() -> int:
    """Take the guarantee out, then be the product."""
    CONTROLS[sys.argv.pop(1)]()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
