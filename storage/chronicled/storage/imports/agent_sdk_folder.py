"""One OpenHands V1 conversation in a folder, as the agent SDK keeps it: `events/event-NNNNN-ID.json`.

An export of the web interface that was unpacked has the same files beside each other: `event_NNNNNN_ID.json`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from chronicled.migrations.openhands.v1.reading import mapping
from chronicled.storage.imports.files import Folder
from chronicled.storage.imports.source import Record

__all__ = ["EVENT", "EVENTS", "STATES", "AgentSdkFolder", "Read", "event_records", "events_folder", "labels_of"]

Read = tuple[bytes | None, str | None]
"""A file's bytes, and why there are none."""

EVENT: Final = re.compile(r"event[-_]([0-9]{1,18})[-_]([!-~]{1,200})\.json")
ODD: Final = re.compile(r"event[-_].*\.json", re.DOTALL)
"""Named as no release names an event, but as something that was one."""
STATES: Final = ("base_state.json", "meta.json")
"""What stands of the conversation beside its events; the second one in exports of the web interface."""
EVENTS: Final = "events"


class _Name(NamedTuple):
    number: int
    id: str
    name: str


class AgentSdkFolder:
    """A `Source`: the events of one conversation, in the order of their numbers; they lie in `events`, or beside it.

    The number stands in the file's name, the event's id too, and that is what other events call it. Numbers may be
    missing, and two writers may have used one; files of other names (locks, temporary ones) are none of it. What begins
    and ends as an event's name, and is none, is a record that says so. What is remembered is a name for each event.

    Raises:
        ImportRefused: the folder cannot be read, or is a link.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.name = folder.name if name is None else name
        self.place = str(folder)
        self._folder = folder
        self._events = events_folder(folder) or folder / EVENTS
        self.labels = self._read_labels()

    def _read_labels(self) -> dict[str, str]:
        """Return what the state tells of the conversation; it changes over time, and no event needs it."""
        with Folder(self._folder) as folder:
            found: dict[str, str] = {}
            for name in STATES:
                found |= labels_of(folder.read(name)[0])
            return found

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the events from number `start` on.

        Raises:
            ImportRefused: the folder cannot be read.
        """
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        around = "" if self._events == self._folder else f"{EVENTS}/"
        with Folder(self._events) as folder:
            yield from event_records(folder.names(), folder.read, around)


def event_records(names: list[str], read: Callable[[str], Read], around: str) -> Iterator[Record]:
    """Yield the records of the files that are named as events are, and of those that nearly are.

    Args:
        names: Of all files of the folder.
        read: Returns a file's bytes, or None and why they cannot be had.
        around: What stands before the names in the records' places.
    """
    seen: set[str] = set()
    events = sorted(_Name(int(found[1]), found[2], found[0]) for found in map(EVENT.fullmatch, names) if found)
    # First of all, so that their places do not change when the conversation goes on.
    for odd in sorted(name for name in names if ODD.fullmatch(name) and not EVENT.fullmatch(name)):
        key = f"@{around}{odd.encode('utf-8', 'backslashreplace').decode()}"
        data, problem = read(odd)
        problem = problem or "the file is not named as that of an event is"
        yield Record(key, data or b"", f"{around}{odd}", problem=problem)
    for name in events:
        # The second of one id is not the event that others name.
        key = name.id if name.id not in seen else f"{name.number}-{name.id}"
        seen.add(name.id)
        data, problem = read(name.name)
        yield Record(key, data or b"", f"{around}{name.name}", problem=problem)


def labels_of(data: bytes | None) -> dict[str, str]:
    """Return what a conversation's state, or an export's `meta.json`, tells of it; nothing where it cannot be read."""
    try:
        state = msgspec.json.decode(data or b"", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    agent = mapping(state.get("agent"))
    found: dict[str, Any] = {
        "conversation": state.get("id"),
        "agent": agent.get("kind"),
        "model": mapping(agent.get("llm")).get("model") or state.get("llm_model"),
    }
    return {key: value[:256] for key, value in found.items() if isinstance(value, str) and value}


def events_folder(folder: Path) -> Path | None:
    """Return where in a conversation's folder its events lie; None where it is none. One event is enough."""
    for place in (folder / EVENTS, folder):
        try:
            with os.scandir(place) as entries:
                if any(EVENT.fullmatch(entry.name) is not None for entry in entries):
                    return place
        except OSError:
            continue
    return None
