"""What can be imported under a path: which format it is, and which sessions there are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events.errors import ImportRefused
from chronicled.migrations.conversion import Conversion
from chronicled.migrations.openhands.v0.course import OpenHandsV0
from chronicled.migrations.openhands.v1.course import OpenHandsV1
from chronicled.storage.imports.agent_sdk_archive import agent_sdk_archive, is_archive
from chronicled.storage.imports.agent_sdk_file import agent_sdk_files
from chronicled.storage.imports.agent_sdk_folder import EVENTS as SDK_EVENTS
from chronicled.storage.imports.agent_sdk_folder import AgentSdkFolder, events_folder
from chronicled.storage.imports.app_server_folder import AppServerFolder, is_app_server_folder
from chronicled.storage.imports.openhands_folder import EVENTS, PAGES, OpenHandsFolder
from chronicled.storage.imports.output_lines import is_output, output_lines
from chronicled.storage.imports.source import Source
from chronicled.storage.imports.trajectory import Trajectory, open_file

__all__ = ["FORMATS", "Format", "discover", "session_name"]

SESSIONS: Final = "sessions"
USERS: Final = "users"
CONVERSATIONS: Final = "conversations"
V1_CONVERSATIONS: Final = "v1_conversations"
SERVICE: Final = "event_service"
"""Where the agent server of before 1.0.0 put a conversation, in a folder with its name."""
USER_LABEL: Final = "openhands.user"
HEAD_BYTES: Final = 1 << 20
TELLING: Final = re.compile(
    rb'"(action|observation|kind)"\s*:\s*("|null)|"(history|trajectory)"\s*:|\A\s*\{.*"instance_id"'
)
"""What stands in every event that has a type, and in a line of results."""
V0_EVENT: Final = re.compile(r"\d+(-\d+)?\.json")


class Format(msgspec.Struct, frozen=True):
    """One foreign format: how its sources are found, and how their records are converted."""

    name: str
    find: Callable[[Path], Iterable[Source]]
    """Yields the sources under a path, in an order that stays the same; nothing where there is none of this format."""
    conversion: Callable[[], Conversion]


def discover(path: Path, format: str | None = None) -> tuple[Format, Iterator[Source]]:
    """Return the format of what stands at the path, and its sources. Blocks; only names and first lines are read.

    Raises:
        ImportRefused: there is nothing that can be imported, or no such format.
    """
    wanted = [each for each in FORMATS if format is None or each.name == format]
    if not wanted:
        raise ImportRefused(f"There is no format {format!r}; there is {', '.join(each.name for each in FORMATS)}.")
    if not path.exists():
        raise ImportRefused(f"There is nothing at {path}.")
    for each in wanted:
        sources = iter(each.find(path))
        first = next(sources, None)
        if first is not None:
            if format is None and path.is_file() and not is_archive(path) and not _tells(path):
                # What is in the log stays there: a guess is not enough to put anybody's file into it.
                raise ImportRefused(
                    f"{path} does not look like anything that is known. If it is, say what: --format {each.name}."
                )
            return each, _from(first, sources)
    names = ", ".join(each.name for each in wanted)
    raise ImportRefused(f"There is nothing at {path} that is known as {names}: name a session's folder, or its file.")


def session_name(proposed: str) -> str:
    """Return the name of a session that is most like what a source proposes; none that begins with `_` (reserved)."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", proposed).lstrip("_")[:128]
    return name if name.strip(".") else "imported"


def _tells(path: Path) -> bool:
    """Tell whether the file's beginning has a word of one of the formats; of a long first event that cannot be told."""
    with open_file(path) as stream:
        head = stream.read(HEAD_BYTES)
    return len(head) == HEAD_BYTES or TELLING.search(head) is not None


def _from(first: Source, sources: Iterator[Source]) -> Iterator[Source]:
    yield first
    yield from sources


def _find_v0(path: Path) -> Iterator[Source]:
    if not path.is_dir():
        yield from _find_v0_file(path)
        return
    path = path.resolve()
    if path.name == EVENTS and _holds(path):
        path = path.parent
    if _is_conversation(path):
        yield OpenHandsFolder(path)
        return
    taken: set[str] = set()
    for holder, user in _holders(path):
        for folder in _folders(holder):
            if _is_conversation(folder):
                name = folder.name if folder.name not in taken else f"{folder.name}.{user}"
                taken.add(name)
                yield OpenHandsFolder(folder, name, {} if user is None else {USER_LABEL: user[:128]})


def _holders(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield the folders that hold conversations: of nobody in particular first, then those of each user."""
    whole = False
    if (path / SESSIONS).is_dir():
        whole = True
        yield path / SESSIONS, None
    if (path / USERS).is_dir():
        whole = True
        for user in _folders(path / USERS):
            if (user / CONVERSATIONS).is_dir():
                yield user / CONVERSATIONS, user.name
    if not whole:
        yield path, None


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.is_symlink())


def _is_conversation(path: Path) -> bool:
    return any((path / name).is_dir() and _holds(path / name) for name in (EVENTS, PAGES))


def _holds(path: Path) -> bool:
    """Tell whether the folder holds events or pages of V0, or nothing at all."""
    empty = True
    with os.scandir(path) as entries:
        for each in entries:
            if V0_EVENT.fullmatch(each.name):
                return True
            empty = False
    return empty


def _find_v0_file(path: Path) -> Iterator[Source]:
    with open_file(path) as stream:
        head = stream.read(1 << 20).lstrip(b"\xef\xbb\xbf \t\r\n\x00")
    if is_output(path):
        yield from output_lines(path)
    elif head[:1] in {b"[", b"{"} or path.suffix == ".json":
        yield Trajectory(path)


def _find_v1(path: Path) -> Iterator[Source]:
    if not path.is_dir():
        yield from agent_sdk_archive(path) if is_archive(path) else agent_sdk_files(path)
        return
    path = path.resolve()
    if path.name == SDK_EVENTS and events_folder(path.parent) == path:
        path = path.parent
    if path.name == SERVICE:
        path = path.parent
    source = _conversation_v1(path)
    if source is not None:
        yield source
        return
    taken: set[str] = set()
    for holder in _holders_v1(path):
        for folder in _folders(holder):
            source = _conversation_v1(folder)
            if source is not None:
                if source.name in taken:
                    source.name = f"{folder.name}.{holder.parent.name}"
                taken.add(source.name)
                yield source


def _holders_v1(path: Path) -> Iterator[Path]:
    """Yield the folders that hold conversations: this one, and where servers and the web interface have them."""
    yield path
    for name in (CONVERSATIONS, V1_CONVERSATIONS):
        if (path / name).is_dir():
            yield path / name
    for user in _folders(path):
        if (user / V1_CONVERSATIONS).is_dir():
            yield user / V1_CONVERSATIONS


def _conversation_v1(folder: Path) -> Source | None:
    for place in (folder, folder / SERVICE):
        if place.is_dir() and not place.is_symlink() and events_folder(place) is not None:
            return AgentSdkFolder(place, folder.name)
    return AppServerFolder(folder) if is_app_server_folder(folder) else None


FORMATS: Final[tuple[Format, ...]] = (
    Format("openhands.v1", _find_v1, OpenHandsV1),
    Format("openhands.v0", _find_v0, OpenHandsV0),
)
"""Every format that can be imported; the first that finds a source is taken."""
