"""Standing still: a session's sandbox is paused once nothing runs in it, and goes on when something is wanted of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from chronicled.events.clock import parse_time
from chronicled.events.envelope import Event
from chronicled.events.errors import SandboxError, SandboxUnreachable
from chronicled.events.kinds.lifecycle import SandboxPaused, SandboxResumed
from chronicled.runtimes.runtime import Sandbox
from chronicled.runtimes.worker.birth import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN
from chronicled.runtimes.worker.generation import Generation

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Frost"]

ATTEMPTS_MAX: Final = 5
STRANGER_SECONDS: Final = 1.0
"""How long after a stranger's deed the next one is looked for: each is two events."""
LOOK_SECONDS: Final = 0.05

_log = structlog.get_logger("chronicled.worker")


class Frost:
    """Pauses and resumes the sandbox of one session, one step at a time.

    Only a sandbox in which no action runs is paused, so that no deadline passes meanwhile. The log says that it stands
    still after it does, and that it goes on after it does; a crash in between is made good at the next attach.
    """

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._moving = False
        self._told: Event | None = None
        """Its newest `sandbox_paused`, which the fold may not have met yet."""
        self.frozen = False
        """It stands still, or is about to: nothing is sent to it."""

    def melt(self) -> None:
        """Forget a sandbox that is over."""
        self.frozen = False
        self._told = None

    async def find(self, sandbox: Sandbox) -> None:
        """Take up a sandbox that was found again: paused if the log says so, and going on if it does not."""
        self.frozen = self._session.fold.paused is not None
        if self.frozen or not self._session.pausable:
            return
        try:
            await sandbox.resume()
        except SandboxError as error:
            _log.warning("resume_failed", session=self._session.key.session, detail=error.detail)

    async def watch(self, generation: Generation, sandbox: Sandbox) -> None:
        """Undo what strangers do to it, and tell of it, until cancelled: it stands still when the session says so.

        An action that stood still with it would neither end nor reach its deadline, and nobody would be told why.
        """
        looked = True
        while True:
            if looked:
                await sandbox.wait_moved()
            # Looked at only here, and rarely: an event would have to be set wherever a move ends.
            while self._moving:  # noqa: ASYNC110 - see above
                await anyio.sleep(LOOK_SECONDS)
            try:
                still, looked = await sandbox.stands_still(), True
            except SandboxUnreachable:
                looked = False
                await anyio.sleep(STRANGER_SECONDS)
                continue
            if self._session.generation is not generation or self._moving or still == self.frozen:
                continue
            _log.warning("moved_by_a_stranger", session=self._session.key.session, still=still)
            self._moving = self.frozen = True
            self._session.spawn(partial(self._thaw if still else self._freeze, generation, sandbox))
            await anyio.sleep(STRANGER_SECONDS)

    async def _thaw(self, generation: Generation, sandbox: Sandbox) -> None:
        await self._tell_paused(generation)
        await self._resume(generation, sandbox)

    async def _freeze(self, generation: Generation, sandbox: Sandbox) -> None:
        await self._tell_resumed(generation)
        await self._pause(generation, sandbox)

    def heed(self) -> None:
        """Begin what is wanted, if it is not so already: standing still, or going on."""
        session = self._session
        generation = session.generation
        if self._moving or generation is None or generation.sandbox is None:
            return
        wanted = session.fold.pause is not None and not len(session.fold) and session.fold.closed is None
        if wanted != self.frozen and (generation.ready or self.frozen):
            self._moving = self.frozen = True
            session.spawn(partial(self._pause if wanted else self._resume, generation, generation.sandbox))

    async def _pause(self, generation: Generation, sandbox: Sandbox) -> None:
        session = self._session
        try:
            await sandbox.pause()
        except SandboxError as error:
            _log.warning("pause_failed", session=session.key.session, detail=error.detail)
            self._moving = self.frozen = False
            session.later(RETRY_SECONDS_MAX, session.life.heed)
            return
        await self._tell_paused(generation)
        self._moving = False
        session.life.heed()

    async def _tell_paused(self, generation: Generation) -> None:
        session = self._session
        if session.generation is generation:
            told = SandboxPaused(sandbox=generation.sandbox_id, generation=generation.id)
            self._told = (await session.publisher.publish([session.publisher.lifecycle("sandbox_paused", told)]))[-1]

    async def _tell_resumed(self, generation: Generation) -> None:
        session = self._session
        paused, self._told = self._told or session.fold.paused, None
        if session.generation is generation and paused is not None:
            seconds = max(0.0, (session.context.clock.now_us() - parse_time(paused.time)) / 1e6)
            told = SandboxResumed(
                sandbox=generation.sandbox_id, generation=generation.id, paused_seconds=round(seconds, 6)
            )
            await session.publisher.publish([session.publisher.lifecycle("sandbox_resumed", told)])

    async def _resume(self, generation: Generation, sandbox: Sandbox) -> None:
        session = self._session
        wait = RETRY_SECONDS_MIN
        for _ in range(ATTEMPTS_MAX):
            try:
                await sandbox.resume()
                break
            except SandboxError as error:
                _log.warning("resume_failed", session=session.key.session, detail=error.detail)
            if session.generation is not generation:
                # It has ended meanwhile, and nothing waits for it any more.
                self._moving = False
                session.life.heed()
                return
            await anyio.sleep(wait)
            wait *= 2
        else:
            # What waits for it must not wait for ever: the next generation takes it, or it is told that state is lost.
            self._moving = False
            session.life.put_down("resume_failed")
            return
        await self._tell_resumed(generation)
        self._moving = self.frozen = False
        session.life.heed()
        session.advance_all()
