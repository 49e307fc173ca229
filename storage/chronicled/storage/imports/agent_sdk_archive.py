"""OpenHands V1 conversations in a ZIP archive, as its servers give them to whoever asks for the trajectory.

The web interface's has `event_NNNNNN_ID.json` and `meta.json`, the agent server's a conversation's folder. Nothing of
it is unpacked: its files are read where they stand.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from chronicled.events.errors import ImportRefused
from chronicled.storage.imports.agent_sdk_folder import EVENT, EVENTS, STATES, Read, event_records, labels_of
from chronicled.storage.imports.files import RECORD_BYTES_MAX
from chronicled.storage.imports.source import Record
from chronicled.storage.imports.trajectory import open_file

__all__ = ["AgentSdkArchive", "agent_sdk_archive", "is_archive"]

MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
BROKEN: Final = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError)
"""What a damaged, encrypted or strange archive raises where it is read."""


class AgentSdkArchive:
    """A `Source`: the events of one conversation in an archive, in the order of their numbers.

    What is remembered is a name for each file of the archive.
    """

    def __init__(self, path: Path, folder: str, name: str) -> None:
        self.name = name
        self.place = f"{path}:{folder}" if folder else str(path)
        self._path = path
        self._folder = folder
        self.labels = self._read_labels()

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the events from number `start` on.

        Raises:
            ImportRefused: the archive cannot be read.
        """
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        with _open(self._path) as archive:
            around = f"{self._folder}/" if self._folder else ""
            names = [each.name for each in map(PurePosixPath, archive.namelist()) if _parent(each) == self._folder]
            yield from event_records(names, partial(_read, archive, around), around)

    def _read_labels(self) -> dict[str, str]:
        place = PurePosixPath(self._folder)
        beside = str(place.parent if place.name == EVENTS else place)
        found: dict[str, str] = {}
        with _open(self._path) as archive:
            for name in STATES:
                found |= labels_of(_read(archive, "" if beside == "." else f"{beside}/", name)[0])
        return found


def agent_sdk_archive(path: Path) -> Iterator[AgentSdkArchive]:
    """Yield each conversation in an archive; nothing where there is none in it.

    Raises:
        ImportRefused: the archive cannot be read.
    """
    with _open(path) as archive:
        folders = sorted(
            {_parent(each) for each in map(PurePosixPath, archive.namelist()) if EVENT.fullmatch(each.name)}
        )
    for folder in folders:
        around = PurePosixPath(folder)
        while around.name in {EVENTS, "event_service"}:
            around = around.parent
        yield AgentSdkArchive(path, folder, path.stem if len(folders) == 1 else around.name or path.stem)


def is_archive(path: Path) -> bool:
    """Tell whether the file begins as an archive does.

    Raises:
        ImportRefused: it cannot be opened.
    """
    with open_file(path) as stream:
        return stream.read(4) in MAGIC


@contextmanager
def _open(path: Path) -> Generator[zipfile.ZipFile]:
    with open_file(path) as stream:
        try:
            archive = zipfile.ZipFile(stream)
        except BROKEN as error:
            raise ImportRefused(f"{path} cannot be read: {error}.") from None
        with archive:
            yield archive


def _parent(place: PurePosixPath) -> str:
    return "" if str(place.parent) == "." else str(place.parent)


def _read(archive: zipfile.ZipFile, around: str, name: str) -> Read:
    try:
        found = archive.getinfo(f"{around}{name}")
        with archive.open(found) as stream:
            # Its size is what the archive says it is; what comes out of it is what counts.
            data = stream.read(RECORD_BYTES_MAX + 1)
    except KeyError:
        return None, "is not in the archive"
    except BROKEN as error:
        return None, f"cannot be unpacked: {error}"
    if len(data) > RECORD_BYTES_MAX:
        return None, f"has more than {RECORD_BYTES_MAX} bytes, which are read"
    return data, None
