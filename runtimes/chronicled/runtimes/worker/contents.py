"""The bytes that actions bring with them: copies of blobs, as files without a name, while the action is open."""

from __future__ import annotations

import contextlib
import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from chronicled.events.envelope import Event
from chronicled.events.errors import BlobNotFound, StorageFull, StoreFailed
from chronicled.events.outcome import Outcome
from chronicled.runtimes.worker.refusal import never_ran

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Contents"]

RETRY_SECONDS: Final = 0.5
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})

_log = structlog.get_logger("chronicled.worker")


class Contents:
    """The contents of one session's open actions.

    A sandbox never gets a blob's own file: who holds a descriptor may find a way to write to what is behind it.
    """

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._copies: dict[str, int] = {}
        self._copying: set[str] = set()

    def has(self, event: Event, digest: str) -> bool:
        """Tell whether the action's content is here; if not, it is copied, and then the action's lane advances."""
        if event.id in self._copies:
            return True
        if event.id not in self._copying:
            self._copying.add(event.id)
            self._session.spawn(partial(self._copy, event, digest))
        return False

    def descriptor(self, action: str) -> int | None:
        """Return the copy, open for reading, if the action has a content; it stays ours to close."""
        return self._copies.get(action)

    def forget(self, action: str) -> None:
        """Let go of the content of an action, which has ended."""
        descriptor = self._copies.pop(action, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        for action in list(self._copies):
            self.forget(action)

    async def _copy(self, event: Event, digest: str) -> None:
        session = self._session
        descriptor = -1
        try:
            descriptor = await self._copied(event, digest)
        except BlobNotFound as error:
            if session.never_sent(event.id):
                message = f"Its content is lost, so it cannot run. {error.detail}"
                session.end_unsent([(event, never_ran(Outcome.ERROR, "blob_lost", message))])
        except StorageFull as error:
            _log.warning("dispatch_waits", session=session.key.session, detail=error.detail)
            session.later(RETRY_SECONDS, partial(session.advance, event.lane))
        finally:
            self._copying.discard(event.id)
        if descriptor < 0:
            return
        if session.fold.find(event.id) is None:
            os.close(descriptor)
            return
        self._copies[event.id] = descriptor
        session.advance(event.lane)

    async def _copied(self, event: Event, digest: str) -> int:
        context = self._session.context
        path = os.path.join(context.directories.spool, f"{event.id}.in")
        try:
            writing = context.disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                reading = context.disk.open(path, os.O_RDONLY)
                os.unlink(path)
                try:
                    await context.log.copy_blob(self._session.key, digest, writing)
                except BaseException:
                    os.close(reading)
                    raise
            finally:
                os.close(writing)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(path)
            if error.errno in NO_ROOM:
                raise StorageFull(f"The content of an action cannot be copied: {error.strerror}.") from error
            raise StoreFailed(f"The content of an action cannot be copied: {error}.") from error
        return reading
