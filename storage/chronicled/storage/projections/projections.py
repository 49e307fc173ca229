"""The engine: brings the projections up to the log's head, keeps them there, and saves their rows in the background."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import Event
from chronicled.events.errors import LogCorrupt, Unavailable
from chronicled.events.lanes import SessionFold
from chronicled.events.store import EventStore, Filter
from chronicled.events.worker_log import Claim, SessionKey
from chronicled.storage.projections.file import ProjectionFile, is_damage, is_full
from chronicled.storage.projections.open_work import OpenWork
from chronicled.storage.projections.projection import Changes, Checkpoint, Projection
from chronicled.storage.projections.summary import SandboxState, SessionRow, SessionSummary, Summaries

__all__ = ["Projections", "open_projections"]

READ_EVENTS: Final = 1000
SAVE_EVENTS: Final = 20_000
"""Events that are folded at a start between two saves."""
SAVE_SECONDS: Final = 1.0
RETRY_SECONDS_MAX: Final = 30.0
CLOSE_SECONDS: Final = 5.0
MISSING_ROUNDS_MAX: Final = 100

T = TypeVar("T")


class Projections:
    """What the log adds up to, current with every commit (D1).

    Memory is folded by the log's listener in commit order, before the appends are acked: who has been acked sees it
    here. Rows follow in the background and may lag; after a crash only the tail behind their checkpoint is folded.

    Made by `open_projections`.
    """

    def __init__(self, store: EventStore, codec: Codec, file: ProjectionFile, save_seconds: float) -> None:
        self._store = store
        self._codec = codec
        self._file = file
        self._save_seconds = save_seconds
        self._summaries = Summaries(codec)
        self._open_work = OpenWork(codec.registry)
        self._from: list[int] = [0, 0]
        self._position = 0
        self._saved = 0
        self._leaf = ""
        self._unsaved: tuple[list[Changes], list[Checkpoint]] | None = None
        self._watched: dict[str, Claim | None] = {}
        self._lock = anyio.Lock()
        self._wake = anyio.Event()
        self._stop_listening: Callable[[], None] = lambda: None
        self.events_folded = 0
        """Events that this start had to read from the log."""
        self.failure: str | None = None
        """Why rows cannot be saved at the moment; memory goes on."""
        self._damaged = False

    @property
    def position(self) -> int:
        """Position of the last event folded."""
        return self._position

    # -- what readers ask ------------------------------------------------------------------------------------------

    def find(self, tenant: str, session: str) -> SessionFold | None:
        """Return the session's fold. None: there is no such session, or it is closed and nothing is left to do in it.

        The fold is the engine's own: read it, never change it.
        """
        return self._open_work.find((tenant, session))

    async def settle(self) -> None:
        """Make the folds of sessions that were over and have something to do again; `unfinished` has them then."""
        if self._open_work.revived():
            async with self._lock:
                await self._revive()

    def unfinished(self) -> list[SessionKey]:
        """Return every session that is open, or has a sandbox or open actions, in the order of creation."""
        return self._open_work.unfinished()

    async def session(self, tenant: str, session: str) -> SessionSummary | None:
        """Return the session, or None when there is no such one.

        Raises:
            Unavailable: it is over, so its row has to be read, and the file cannot be.
        """
        key = (tenant, session)
        await self._read_missing()
        row = self._summaries.find(key)
        if row is None:
            rows: list[SessionRow | None] = await self._read(self._summaries.read_missing, [key])
            row = self._summaries.find(key) or rows[0]
        return None if row is None else self._summary(row)

    async def page(self, tenant: str, after: int, limit: int) -> tuple[list[SessionSummary], bool]:
        """Return sessions created behind position `after`, in that order, and whether these are all.

        Raises:
            Unavailable: the file cannot be read.
        """
        await self._read_missing()
        unsaved = self._summaries.unsaved(tenant, after)
        rows: list[SessionRow] = await self._read(self._summaries.page, tenant, after, limit + 1)
        merged = {row.created: row for row in rows}
        last = rows[-1].created if len(rows) > limit else None
        for row in (*unsaved.values(), *self._summaries.unsaved(tenant, after).values()):
            if last is None or row.created <= last:
                merged[row.created] = row
        found = [self._summary(merged[created]) for created in sorted(merged)]
        return found[:limit], len(found) <= limit

    def _summary(self, row: SessionRow) -> SessionSummary:
        fold = self._open_work.find((row.tenant, row.session))
        return SessionSummary(
            tenant=row.tenant,
            session=row.session,
            created=row.created,
            created_time=row.created_time,
            runtime=row.runtime,
            image=row.image,
            labels=row.labels,
            isolated=row.isolated,
            closed=row.closed,
            position=row.position,
            time=row.time,
            generation=row.generation,
            sandbox=row.sandbox,
            fence=row.fence,
            open_actions=0 if fold is None else len(fold),
            active_time=row.active_time or row.created_time,
            sandbox_state=_sandbox_state(fold),
        )

    # -- claims ----------------------------------------------------------------------------------------------------

    def watch_claim(self, id: str) -> None:
        """Have the fold kept as it stands when the `session_claimed` of that id is folded, for `take_claim`."""
        self._watched[id] = None

    def take_claim(self, id: str) -> Claim | None:
        """Return the claim of a watched id, exactly as of its position, and end the watch; None if it did not come."""
        return self._watched.pop(id, None)

    # -- the fold --------------------------------------------------------------------------------------------------

    def _committed(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self._apply(event)
        if not self._wake.is_set():
            self._wake.set()

    def _apply(self, event: Event) -> None:
        if event.position <= self._position:
            return
        if event.position != self._position + 1:
            raise LogCorrupt(f"Position {event.position} was told after {self._position}: the log has a gap.")
        self._position = event.position
        self._leaf = event.leaf
        if event.tenant[:1] != "_":  # the daemon's own
            if event.position > self._from[0]:
                self._summaries.apply(event)
            if event.position > self._from[1]:
                self._open_work.apply(event)
            if event.id in self._watched and event.kind == "session_claimed":
                fold = self._open_work.find((event.tenant, event.session))
                if fold is not None:
                    self._watched[event.id] = fold.claim(event.position)

    # -- start and save --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the rows, or make them anew; fold the tail; listen."""
        try:
            await self._load()
        except (sqlite3.Error, msgspec.DecodeError, msgspec.ValidationError) as error:
            if isinstance(error, sqlite3.Error) and is_full(error):
                self._file = await self._file.leave()
            elif isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            else:
                self._file = await self._file.start_anew()
            self._summaries = Summaries(self._codec)
            self._open_work = OpenWork(self._codec.registry)
            await self._load()
        await self._catch_up()

    async def _load(self) -> None:
        projections: tuple[Projection, ...] = (self._summaries, self._open_work)
        for index, projection in enumerate(projections):
            checkpoint = await self._file.checkpoint(projection)
            if checkpoint is not None and await self._is_of_this_log(checkpoint, projection):
                projection.restore(await self._file.run(projection.read))
                self._from[index] = checkpoint.position
            else:
                await self._file.clear(projection)
                self._from[index] = 0
        self._position = self._saved = min(self._from)

    async def _is_of_this_log(self, checkpoint: Checkpoint, projection: Projection) -> bool:
        if (checkpoint.version, checkpoint.incarnation) != (projection.version, self._store.incarnation):
            return False
        if not 0 < checkpoint.position <= self._store.head:
            return False
        page = await self._store.read(checkpoint.position - 1, 1)
        return bool(page.events) and page.events[0].leaf == checkpoint.leaf

    async def _catch_up(self) -> None:
        # No await stands between finding that the head is reached and listening: nothing can come in between.
        while self._position < self._store.head:
            page = await self._store.read(self._position, READ_EVENTS)
            for event in page.events:
                self._apply(event)
            self.events_folded += len(page.events)
            if self._position - self._saved >= SAVE_EVENTS:
                await self.save()
        self._stop_listening = self._store.listen(self._committed)
        await self.settle()

    async def save_for_ever(self) -> None:
        """Bring the rows up to date a while after each commit; never returns."""
        pause = self._save_seconds
        while True:
            await self._wake.wait()
            await anyio.sleep(pause)
            self._wake = anyio.Event()
            await self.save()
            if self.failure is None:
                pause = self._save_seconds
            else:
                pause = min(max(pause, 0.1) * 2, RETRY_SECONDS_MAX)
                self._wake.set()

    async def save(self) -> None:
        """Bring the rows up to date now; `failure` says why that could not be done. They follow by themselves too."""
        try:
            async with self._lock:
                await self._save()
        except sqlite3.Error as error:
            self.failure = str(error)
            self._damaged = self._damaged or is_damage(error)
        else:
            self.failure = None

    async def _save(self) -> None:
        if self._unsaved is None:
            for _ in range(MISSING_ROUNDS_MAX):
                if keys := self._summaries.missing():
                    self._summaries.restore_missing(keys, await self._file.run(self._summaries.read_missing, keys))
                elif self._open_work.revived():
                    await self._revive()
                else:
                    break
            else:
                return  # events keep coming for sessions that are over: another time
            if self._position <= self._saved:
                return
            # Taken in one step of the loop: rows and checkpoints stand at the same position.
            projections: tuple[Projection, ...] = (self._summaries, self._open_work)
            incarnation = self._store.incarnation
            self._unsaved = (
                [projection.changes() for projection in projections],
                [
                    Checkpoint(each.name, each.version, self._position, incarnation, self._leaf)
                    for each, start in zip(projections, self._from, strict=True)
                    if self._position > start
                ],
            )
            self._saved = self._position
        await self._file.save(*self._unsaved)
        self._unsaved = None
        self._summaries.saved()
        self._open_work.saved()

    async def _revive(self) -> None:
        for key in self._open_work.revived():
            fold = SessionFold(SessionKey(*key), self._codec.registry)
            where, after, at_end = Filter(tenant=key[0], session=key[1]), 0, False
            while not at_end:
                page = await self._store.read(after, READ_EVENTS, where)
                fold.extend(event for event in page.events if event.position <= self._position)
                after, at_end = page.next, page.at_end or page.next >= self._position
            self._open_work.adopt(key, fold)

    async def _read_missing(self) -> None:
        if self._summaries.missing():
            async with self._lock:
                keys = self._summaries.missing()
                self._summaries.restore_missing(keys, await self._read(self._summaries.read_missing, keys))

    async def _read(self, job: Callable[..., list[T]], *arguments: Any) -> list[T]:
        try:
            found: list[T] = await self._file.run(job, *arguments)
            return found
        except (sqlite3.Error, msgspec.DecodeError) as error:
            self._damaged = self._damaged or not isinstance(error, sqlite3.Error) or is_damage(error)
            raise Unavailable(
                f"The list of sessions cannot be read ({error}); the log is whole, and a restart makes the list again."
            ) from error

    async def close(self) -> None:
        """Stop listening, save for a bounded time, close the file."""
        self._stop_listening()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await self.save()
        with anyio.CancelScope(shield=True):
            if self._damaged:
                self._file = await self._file.start_anew()
            await self._file.close()


def _sandbox_state(fold: SessionFold | None) -> SandboxState:
    if fold is None or fold.sandbox is None:
        return "none"
    if fold.restart is not None or fold.closed is not None:
        return "ending"
    if fold.generation is None:
        return "starting"
    if fold.paused is not None:
        return "paused"
    return "ready" if fold.pause is None else "pausing"


@asynccontextmanager
async def open_projections(
    path: Path | None, store: EventStore, codec: Codec, *, save_seconds: float = SAVE_SECONDS
) -> AsyncGenerator[Projections]:
    """Open the projections of the log and keep them current until the context is left.

    A file that is missing, damaged, of another version or of another log is made again from the log. Only the tail
    behind the checkpoint is read otherwise. Leave the context before the store is closed.

    Args:
        path: Where the rows are; None keeps them in memory.
        store: The log.
        codec: Reads payloads; its registry tells what runs and what ends it.
        save_seconds: How long rows may lag behind.

    Raises:
        sqlite3.OperationalError: the file cannot be opened, for another reason than being damaged.

    Cancellation: safe at any point; memory is saved for at most five seconds.
    """
    projections = Projections(store, codec, await ProjectionFile.open(path), save_seconds)
    try:
        await projections.start()
        # A task and not a task group: a group would wrap what the body raises, and tie the context to one task.
        saver = asyncio.create_task(projections.save_for_ever(), name="projections")
        try:
            yield projections
        finally:
            saver.cancel()
            with suppress(asyncio.CancelledError):
                await saver
    finally:
        await projections.close()
