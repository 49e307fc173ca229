"""One OpenHands V0 conversation in a folder: `events/ID.json`, one file an event, and `event_cache/`, pages of them."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events.errors import ImportRefused
from chronicled.storage.imports.files import Folder
from chronicled.storage.imports.openhands_page import Page, read_page
from chronicled.storage.imports.originals import decode
from chronicled.storage.imports.source import Record

__all__ = ["EVENTS", "PAGES", "OpenHandsFolder"]

EVENTS: Final = "events"
PAGES: Final = "event_cache"
EVENT: Final = re.compile(r"(0|[1-9][0-9]{0,17})\.json")
ODD: Final = re.compile(r"\d+\.json")
"""Numbers as no release of OpenHands writes them, e.g. `007.json`."""
PAGE: Final = re.compile(r"(\d{1,18})-(\d{1,18})\.json")
PAGE_IDS_MAX: Final = 100_000
"""Most ids that a page's name may claim."""


class _PageName(msgspec.Struct, frozen=True, order=True):
    start: int
    end: int
    name: str


class OpenHandsFolder:
    """A `Source`: the events of one conversation in the order of their ids, whatever file holds them.

    Each event may stand in a file of its own, in a page, or in both. Where both are whole and say the same there is one
    record. Where one is torn or empty the other one is taken, and the torn one is a record too, so that nothing that
    was there is dropped. Where they differ (two programs wrote one conversation) both are records, the file's first.
    Nothing else in the folder is opened: `agent_state.pkl` and its like are pickles, which are programs.
    """

    def __init__(self, folder: Path, name: str | None = None, labels: dict[str, str] | None = None) -> None:
        self.name = folder.name if name is None else name
        self.place = str(folder)
        self.labels = labels or {}
        self._folder = folder

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from number `start` on.

        Raises:
            ImportRefused: the folder has neither events nor pages, or cannot be read.
        """
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        numbers, pages = self._listed(EVENTS), self._listed(PAGES)
        if numbers is None and pages is None:
            raise ImportRefused(f"{self._folder} has no folder {EVENTS}: it is no conversation of OpenHands.")
        singles: list[int] = []
        odd: list[str] = []
        for name in numbers or ():
            if found := EVENT.fullmatch(name):
                singles.append(int(found[1]))
            elif ODD.fullmatch(name):
                odd.append(name)
        singles.sort()
        odd.sort()
        paged = sorted(
            _PageName(int(found[1]), int(found[2]), name) for name in pages or () if (found := PAGE.fullmatch(name))
        )
        # The names alone are held: a few bytes for each event.
        del numbers, pages
        if odd:
            yield from self._odd(odd)
        if not paged:
            yield from self._singles(singles)
        else:
            yield from self._merged(singles, paged)

    def _listed(self, name: str) -> list[str] | None:
        path = self._folder / name
        if not path.is_dir() or path.is_symlink():
            return None
        with Folder(path) as folder:
            return folder.names()

    def _singles(self, numbers: list[int]) -> Iterator[Record]:
        if not numbers:
            return
        with Folder(self._folder / EVENTS) as folder:
            for number in numbers:
                yield _single(folder, number)

    def _odd(self, names: list[str]) -> Iterator[Record]:
        """Yield files of which nobody knows where they belong: first of all, so that their places do not change."""
        with Folder(self._folder / EVENTS) as folder:
            for name in names:
                data, problem = folder.read(name)
                problem = problem or "the file is not named as that of an event is"
                yield Record(f"@{EVENTS}/{name}", data or b"", f"{EVENTS}/{name}", problem=problem)

    def _merged(self, singles: list[int], names: list[_PageName]) -> Iterator[Record]:
        """Yield by id: a page is held from its first id to the one behind its last."""
        held: list[tuple[int, str, Page]] = []
        names = names[::-1]
        with Folder(self._folder / PAGES) as pages:
            events = Folder(self._folder / EVENTS) if singles else None
            try:
                for number, has_file in _ids(singles, names[::-1]):
                    while held and held[0][0] <= number:
                        yield from _strays(heapq.heappop(held)[2])
                    while names and names[-1].start <= number:
                        name = names.pop()
                        heapq.heappush(held, (name.end, name.name, self._page(pages, name)))
                    if len(held) == 1 and (found := held[0][2].events.get(number)) is not None:
                        # Nearly always in the page alone, or in both and the same; and it is decoded already.
                        key = str(number)
                        if not has_file:
                            yield Record(key, found[0], held[0][2].place, found[1])
                            continue
                        if events is not None and events.holds(f"{key}.json", found[0]):
                            yield Record(key, found[0], f"{EVENTS}/{key}.json", found[1])
                            continue
                    file = _single(events, number) if has_file and events is not None else None
                    if not held:
                        if file is not None:
                            yield file
                        continue
                    yield from _one(number, file, [page for _, _, page in held if number in page.events])
                while held:
                    yield from _strays(heapq.heappop(held)[2])
                for name in reversed(names):
                    yield from _strays(self._page(pages, name))
            finally:
                if events is not None:
                    events.close()

    def _page(self, folder: Folder, name: _PageName) -> Page:
        place = f"{PAGES}/{name.name}"
        data, problem = folder.read(name.name)
        if data is None:
            return Page(place, {}, [(0, b"", problem)])
        return read_page(place, name.start, name.end, data)


def _ids(singles: list[int], pages: list[_PageName]) -> Iterator[tuple[int, bool]]:
    """Yield every id that a file has or a page's name claims, once and rising, and whether a file has it."""
    files, last = iter(singles), -1
    file = next(files, None)
    for page in pages:
        for number in range(max(page.start, last + 1), min(page.end, page.start + PAGE_IDS_MAX)):
            while file is not None and file < number:
                yield file, True
                file = next(files, None)
            if file == number:
                file = next(files, None)
                yield number, True
            else:
                yield number, False
            last = number
    while file is not None:
        if file > last:
            yield file, True
        file = next(files, None)


def _single(folder: Folder, number: int) -> Record:
    name = f"{number}.json"
    data, problem = folder.read(name)
    return Record(str(number), b"" if data is None else data, f"{EVENTS}/{name}", problem=problem)


def _one(number: int, file: Record | None, pages: list[Page]) -> Iterator[Record]:
    """Yield the event of that id, and what else stands under it."""
    records = [] if file is None else [file]
    for page in pages:
        data, value = page.events[number]
        if not any(data == record.data or _same(data, record.data) for record in records):
            records.append(Record(str(number), data, page.place, value))
    if len(records) > 1 and file is not None and (file.problem is not None or decode(file.data)[1] is not None):
        # The file is torn: a page has what it should have said.
        records = [*records[1:], records[0]]
    for copy, record in enumerate(records):
        if not copy:
            yield record
        else:
            problem = record.problem or f"another copy of event {number}, which differs from the one before it"
            yield Record(f"{number}@{record.place}", record.data, record.place, problem=problem)


def _same(left: bytes, right: bytes) -> bool:
    found, problem = decode(left)
    other, wrong = decode(right)
    return problem is None and wrong is None and found == other


def _strays(page: Page) -> Iterator[Record]:
    for place, data, problem in page.strays:
        yield Record(f"@{page.place}#{place}", data, page.place, problem=problem)
