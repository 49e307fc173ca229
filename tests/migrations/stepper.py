"""The product's steps in a process of its own, to be killed at a named point: two more steps come behind them.

    python -m tests.migrations.stepper LOG [POINT N] [no-cursor|no-part]

It ends with 0 when the log is at the last step. The two breaks are the negative controls: `no-cursor` commits a batch
before its cursor, `no-part` lets the copy have its name before it is whole.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from chronicled.events import faultpoint
from chronicled.storage import backup, segments
from chronicled.storage.connection import open_writer
from chronicled.storage.log_schema import LOG_STEPS, Step, Work
from chronicled.storage.schema import apply_steps

TOUCH_EVENTS = 1500


def touch(connection: sqlite3.Connection, cursor: int) -> int | None:
    """Note the size of the next payloads."""
    connection.execute(
        "INSERT INTO payload_size SELECT position, length(payload) FROM event WHERE position > ? AND position <= ?",
        (cursor, cursor + TOUCH_EVENTS),
    )
    (head,) = connection.execute("SELECT max(position) FROM event").fetchone()
    return cursor + TOUCH_EVENTS if cursor + TOUCH_EVENTS < head else None


def touch_and_commit(connection: sqlite3.Connection, cursor: int) -> int | None:
    """The same, durable before the cursor is."""
    following = touch(connection, cursor)
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    return following


def steps(*, broken: bool = False) -> tuple[Step, ...]:
    """Return the product's steps and two more: one that touches every row, one that is a statement."""
    newest = len(LOG_STEPS)
    work = Work(touch_and_commit if broken else touch, "SELECT max(position) FROM event")
    return (
        *LOG_STEPS,
        # Without a key, so that a batch that was done twice can be seen.
        Step(newest + 1, "sizes", ("CREATE TABLE payload_size (position INTEGER, bytes INTEGER) STRICT",), work),
        Step(newest + 2, "an index", ("CREATE INDEX payload_size_bytes ON payload_size (bytes)",)),
    )


def main() -> None:
    """Take the steps; be killed on the way if that was asked for."""
    path, arguments = Path(sys.argv[1]), sys.argv[2:]
    backup.PAGES = 64  # type: ignore[misc]  # so that a small log has a middle too
    segments.BATCH_SEGMENTS = 1  # type: ignore[misc]  # as above
    if "no-part" in arguments:
        backup.PART = ""  # type: ignore[misc]  # the negative control
    if len(arguments) >= 2:
        name, left = arguments[0], int(arguments[1])

        def arrive(point: str) -> None:
            nonlocal left
            if point == name:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        faultpoint.arm(arrive)
    with closing(open_writer(path)) as connection:
        apply_steps(connection, path, 2, {"incarnation": "i", "time": 1}, steps(broken="no-cursor" in arguments))


if __name__ == "__main__":
    main()
