"""Named points at which a crash test may end the process; nothing happens at them unless a test has armed one.

They are in the product, so that a crash lands between two named steps and not where chance has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = [
    "ACTION_POINTS",
    "IMPORT_POINTS",
    "MIGRATION_POINTS",
    "POINTS",
    "REWRITE_POINTS",
    "SECRET_POINTS",
    "arm",
    "reached",
]

ACTION_POINTS: Final = frozenset(
    {
        "before_append",  # store: a batch is complete, nothing of it is written
        "commit_to_ack",  # store: the batch is on the medium, nobody has been told
        "ack_to_dispatch",  # worker: the action is durable, nothing is in the dispatch journal
        "journal_to_send",  # worker: in the dispatch journal, not sent
        "dispatch_to_start",  # action server: received, not started
        "mid_output",  # worker and action server: part of an output is stored
        "result_to_spool",  # action server: ended, its result not yet in the spool
        "spool_to_append",  # worker: the result is in the spool, its observation not in the log
    }
)
"""On the way of every action."""
SECRET_POINTS: Final = frozenset(
    {
        "secrets_to_append",  # daemon: secrets are sealed, the log does not say so yet
        "original_to_append",  # daemon: what was redacted of an action is sealed, the action not in the log
        "append_to_destroy",  # daemon: the log says that secrets are destroyed, they are still there
    }
)
"""On the way of secrets."""
MIGRATION_POINTS: Final = frozenset(
    {
        "mid_backup",  # store: part of the copy is written
        "backup_to_step",  # store: the copy is whole, nothing is changed
        "step_to_commit",  # store: a step's statements are done, not committed
        "batch_to_commit",  # store: a batch of a step's work is done, not committed
        "between_batches",  # store: a batch is durable
        "between_steps",  # store: a step and its work are durable
    }
)
"""On the way of a database from step to step."""
IMPORT_POINTS: Final = frozenset(
    {
        "import_to_blob",  # importer: records are converted, nothing of them is written
        "import_to_append",  # importer: the original bytes are a blob, their events are not in the log
        "import_to_next",  # importer: the events are durable, nobody has been told
    }
)
"""On the way of an import."""
REWRITE_POINTS: Final = frozenset(
    {
        "mid_rewrite",  # store: some of the new log's events are written
        "copy_to_check",  # store: all of the new log is written, nothing of it was checked
        "check_to_name",  # store: it is checked and synced, and has not its name yet
        "named",  # store: it has its name
    }
)
"""On the way of a log that is written anew."""
POINTS: Final = ACTION_POINTS | SECRET_POINTS | IMPORT_POINTS | MIGRATION_POINTS | REWRITE_POINTS

_handler: Callable[[str], None] | None = None


def arm(handler: Callable[[str], None] | None) -> None:
    """Have `handler` called with the name of each point that is reached; None disarms."""
    global _handler
    _handler = handler


def reached(point: str) -> None:
    """Say that execution is at the named point."""
    if _handler is not None:
        _handler(point)
