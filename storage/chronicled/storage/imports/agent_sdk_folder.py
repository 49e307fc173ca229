"""One OpenHands V1 conversation in a folder, as the agent SDK keeps it: `events/event-NNNNN-ID.json`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from chronicled.storage.imports.files import Folder
from chronicled.storage.imports.source import Record

__all__ = ["AgentSdkFolder", "is_agent_sdk_folder"]

EVENT: Final = re.compile(r"event-([0-9]{1,18})-([!-~]{1,200})\.json")
ODD: Final = re.compile(r"event-.*\.json", re.DOTALL)
"""Named as no release names an event, but as something that was one."""
STATE: Final = "base_state.json"
EVENTS: Final = "events"


class _Name(NamedTuple):
    number: int
    id: str
    name: str


class AgentSdkFolder:
    """A `Source`: the events of one conversation, in the order of their numbers.

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
        self.labels = self._read_labels()

    def _read_labels(self) -> dict[str, str]:
        """Return what the state tells of the conversation; it changes over time, and no event needs it."""
        with Folder(self._folder) as folder:
            data, _ = folder.read(STATE)
        try:
            state = msgspec.json.decode(data or b"", type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return {}
        agent = state.get("agent")
        llm = agent.get("llm") if isinstance(agent, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # whatever JSON has
        found: dict[str, Any] = {
            "conversation": state.get("id"),
            "agent": agent.get("kind") if isinstance(agent, dict) else None,  # pyright: ignore[reportUnknownMemberType]  # whatever JSON has
            "model": llm.get("model") if isinstance(llm, dict) else None,  # pyright: ignore[reportUnknownMemberType]  # whatever JSON has
        }
        return {key: value[:256] for key, value in found.items() if isinstance(value, str) and value}

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the events from number `start` on.

        Raises:
            ImportRefused: the folder cannot be read.
        """
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        with Folder(self._folder / EVENTS) as folder:
            seen: set[str] = set()
            listed = folder.names()
            names = sorted(_Name(int(found[1]), found[2], found[0]) for found in map(EVENT.fullmatch, listed) if found)
            # First of all, so that their places do not change when the conversation goes on.
            for odd in sorted(name for name in listed if ODD.fullmatch(name) and not EVENT.fullmatch(name)):
                key = f"@{EVENTS}/{odd.encode('utf-8', 'backslashreplace').decode()}"
                data, problem = folder.read(odd)
                problem = problem or "the file is not named as that of an event is"
                yield Record(key, data or b"", f"{EVENTS}/{odd}", problem=problem)
            for name in names:
                # The second of one id is not the event that others name.
                key = name.id if name.id not in seen else f"{name.number}-{name.id}"
                seen.add(name.id)
                data, problem = folder.read(name.name)
                yield Record(key, data or b"", f"{EVENTS}/{name.name}", problem=problem)


def is_agent_sdk_folder(folder: Path) -> bool:
    """Tell whether a folder is such a conversation: one file of its events is enough."""
    try:
        with os.scandir(folder / EVENTS) as entries:
            return any(EVENT.fullmatch(entry.name) is not None for entry in entries)
    except OSError:
        return False
