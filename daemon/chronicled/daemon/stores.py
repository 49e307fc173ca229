"""What a data directory holds beside the log: the format of each store, and what of it goes along with a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from chronicled.storage.backup import backups_of
from chronicled.storage.formats import FORMATS_NAME, FormatStep, read_formats

__all__ = ["CARRIED_NAMES", "STORES", "BackupFile", "StoreStatus", "backup_files", "store_status"]

_FIRST: Final = (FormatStep(1, "as it began"),)

STORES: Final[Mapping[str, Sequence[FormatStep]]] = {
    "blobs": _FIRST,  # blobs/: a file a digest
    "carriers": _FIRST,  # carriers/: what goes into containers, named by content
    "contexts": _FIRST,  # contexts/: what images are built from
    "cursors": _FIRST,  # cursors/: how far consumers are who have it remembered
    "images": _FIRST,  # images.json: which images are ours
    "instance": _FIRST,  # instance.json: the directory's identity
    "journal": _FIRST,  # journal/: what was sent to sandboxes
    "output": _FIRST,  # output/: what actions print, redacted, until it is a blob
    "sandboxes": _FIRST,  # sandboxes/: homes and tokens
    "secrets": _FIRST,  # secrets/: sealed records
    "spool": _FIRST,  # spool/: results and raw output on their way
    "units": _FIRST,  # units.json: kinds of units that were ever loaded
}
"""The steps of each store. A step that was released is never edited: write the next one."""

CARRIED_NAMES: Final = (
    "instance.json",
    "secrets.key",
    "secrets",
    "http.token",
    "images.json",
    "cursors",
    "units.json",
    FORMATS_NAME,
)
"""What goes over when a log is written anew in another directory, beside the blobs that it names. The rest belongs to
sandboxes, of which there is none then, or is made again."""


class StoreStatus(msgspec.Struct, frozen=True):
    """How far one store beside the log is."""

    store: str
    current: int
    newest: int
    """0 for a store that is not known here."""
    pending: tuple[str, ...] = ()


class BackupFile(msgspec.Struct, frozen=True):
    """A copy that was made before a migration, and is there until somebody removes it."""

    path: str
    bytes: int


def store_status(directory: Path) -> list[StoreStatus]:
    """Return how far each store beside the log is, without changing anything; newer ones too.

    Raises:
        LogCorrupt: what was written down cannot be read.
    """
    formats = read_formats(directory)
    found: list[StoreStatus] = []
    for store in sorted(STORES.keys() | formats.keys()):
        steps, current = STORES.get(store, ()), formats.get(store, 1)
        found.append(StoreStatus(store, current, len(steps), tuple(step.name for step in steps[current:])))
    return found


def backup_files(log: Path) -> list[BackupFile]:
    """Return the copies that stand beside the log."""
    return [BackupFile(str(path), path.stat().st_size) for path in backups_of(log)]
