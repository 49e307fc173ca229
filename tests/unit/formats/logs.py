"""Logs for tests of exports: a session of chosen events, and its chronicle."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from chronicled.events import Append, Codec
from chronicled.events.clock import SystemClock
from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Category, Draft
from chronicled.events.kinds.lifecycle import SessionCreated
from chronicled.migrations.formats.chronicle import Chronicle, Tally, Writer
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.blobs import FileBlobStore
from chronicled.storage.disk import SystemDisk
from chronicled.storage.exports.log_chronicle import LogChronicle
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

SESSION = "work"
BEGIN_US = 1_767_225_600_000_000
"""2026-01-01 00:00 UTC."""


class Ticking(SystemClock):
    """A clock that moves on by a second whenever it is asked."""

    def __init__(self) -> None:
        self.now = BEGIN_US

    def now_us(self) -> int:
        """Return the next second."""
        self.now += 1_000_000
        return self.now


class Chapter:
    """What a session's log is to hold, event by event."""

    def __init__(self) -> None:
        words = vocabulary()
        self.codec = Codec(words.registry, words.chain)
        self.drafts: list[Draft] = []
        self.blobs: list[bytes] = []
        self.add(LIFECYCLE, "session_created", SessionCreated(runtime="process"), source="client")

    def id(self) -> str:
        """Return the id that comes next."""
        return str(uuid.UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + len(self.drafts)))

    def add(self, category: Category, kind: str, payload: msgspec.Struct, **more: Any) -> str:
        """Add an event and return its id."""
        given: dict[str, Any] = {"source": "worker", **more}
        draft = self.codec.draft(category, kind, payload, tenant="default", session=SESSION, id=self.id(), **given)
        self.drafts.append(draft)
        return draft.id

    def action(self, kind: str, payload: msgspec.Struct, **more: Any) -> str:
        """Add an action."""
        return self.add(ACTION, kind, payload, source="client", **more)

    def end(self, kind: str, action: str, payload: msgspec.Struct, **more: Any) -> str:
        """Add the observation that ends an action."""
        return self.add(OBSERVATION, kind, payload, cause=action, **more)

    def raw(self, category: Category, kind: str, version: int, payload: bytes) -> str:
        """Add an event that no codec makes."""
        id = self.id()
        self.drafts.append(Draft("default", SESSION, id, kind, version, category, payload, source="worker"))
        return id

    def blob(self, data: bytes) -> str:
        """Have a blob stored and return its digest."""
        self.blobs.append(data)
        return hashlib.sha256(data).hexdigest()

    async def write(self, data: Path) -> None:
        """Write the log into a directory, each event in a commit of its own."""
        blobs = FileBlobStore(str(data / "blobs"), SystemDisk())
        for blob in self.blobs:
            await blobs.put(blob)
        async with await SqliteStore.open(data / LOG_NAME, clock=Ticking()) as store:
            for number, draft in enumerate(self.drafts):
                await store.append(Append((draft,), create=number == 0))


@contextmanager
def chronicle(data: Path, session: str = SESSION, after: int = 0) -> Generator[LogChronicle]:
    """Open a session's chronicle."""
    words = vocabulary()
    with LogChronicle(data, "default", session, words.registry, words.chain, after) as found:
        yield found


def exported(data: Path, writer: Writer, session: str = SESSION, after: int = 0) -> tuple[bytes, Tally]:
    """Return what a writer makes of a session, and what it counted."""
    with chronicle(data, session, after) as found:
        tally = Tally("test", session, found.head)
        return b"".join(writer(found, tally)), tally


def pieces_of(data: Path, use: Callable[[Chronicle, Tally], Iterator[bytes]]) -> Sequence[int]:
    """Return the sizes of the pieces that a writer yields."""
    with chronicle(data) as found:
        return [len(piece) for piece in use(found, Tally("test", SESSION, found.head))]
