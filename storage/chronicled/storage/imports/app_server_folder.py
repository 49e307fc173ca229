"""One OpenHands V1 conversation as its app server keeps it: a file an event, `YYYYMMDDHHMMSS_KIND_ID`."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from chronicled.storage.imports.files import Folder
from chronicled.storage.imports.source import Record

__all__ = ["AppServerFolder", "is_app_server_folder"]

EVENT: Final = re.compile(r"(\d{14})_([A-Za-z]\w{0,100})_([0-9a-f]{32})(\.json)?")
TIME: Final = re.compile(rb'"timestamp"\s*:\s*"([^"\\]{0,64})"')
LOOK_BYTES: Final = 4096
"""How far into an event its time is looked for: it is one of the first fields."""


class _Name(NamedTuple):
    second: str
    time: bytes
    id: str
    name: str


class AppServerFolder:
    """A `Source`: the events of one conversation, in the order of their times.

    The names have the time to the second; within one second the events themselves tell. What is remembered is a name
    and a time for each event.

    Raises:
        ImportRefused: the folder cannot be read, or is a link.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        with Folder(folder):
            self.name = folder.name if name is None else name
        self.place = str(folder)
        self.labels: dict[str, str] = {}
        self._folder = folder

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the events from number `start` on.

        Raises:
            ImportRefused: the folder cannot be read.
        """
        with Folder(self._folder) as folder:
            for name in sorted(self._names(folder))[start:]:
                data, problem = folder.read(name.name)
                yield Record(name.id, data or b"", name.name, problem=problem)

    def _names(self, folder: Folder) -> Iterator[_Name]:
        taken: set[str] = set()
        for name in sorted(folder.names()):
            found = EVENT.fullmatch(name)
            if found is None:
                continue
            id = str(uuid.UUID(found[3]))
            if id in taken:
                id = f"{found[1]}-{id}"  # the second of one id is not the event that others name
            taken.add(id)
            data, _ = folder.read(name)
            time = TIME.search(data[:LOOK_BYTES]) if data else None
            yield _Name(found[1], b"" if time is None else time[1], id, name)


def is_app_server_folder(folder: Path) -> bool:
    """Tell whether a folder is such a conversation: one of its events is enough."""
    try:
        with os.scandir(folder) as entries:
            return any(EVENT.fullmatch(entry.name) is not None for entry in entries)
    except OSError:
        return False
