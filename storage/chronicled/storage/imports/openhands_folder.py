"""One OpenHands V0 conversation in a folder: `events/ID.json`, one file an event."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from chronicled.storage.imports.source import Record

__all__ = ["OpenHandsFolder"]

EVENT: Final = re.compile(r"(\d{1,18})\.json")


class OpenHandsFolder:
    """A `Source`: the events of one conversation, by id."""

    def __init__(self, folder: Path, name: str | None = None, labels: dict[str, str] | None = None) -> None:
        self.name = folder.name if name is None else name
        self.place = str(folder)
        self.labels = labels or {}
        self._folder = folder

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the events in the order of their ids."""
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        events = self._folder / "events"
        numbers = sorted(int(found[1]) for name in os.listdir(events) if (found := EVENT.fullmatch(name)))
        for number in numbers:
            name = f"{number}.json"
            yield Record(str(number), (events / name).read_bytes(), f"events/{name}")
