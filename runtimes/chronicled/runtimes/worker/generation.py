"""A generation as its worker sees it: one action server, and the link to it, which comes and goes."""

from __future__ import annotations

from typing import Protocol

import anyio
import structlog

from chronicled.events.errors import ProtocolError, StaleFence
from chronicled.events.registry import Registry
from chronicled.runtimes.action_server.frames import Hello, Query, Status, ToServer, ToWorker
from chronicled.runtimes.runtime import Sandbox
from chronicled.runtimes.worker.ability import executable, unable
from chronicled.runtimes.worker.handshake import Expected, shake_hands
from chronicled.runtimes.worker.link import Link
from chronicled.runtimes.worker.observation import Ending

__all__ = ["Crew", "Generation"]

_log = structlog.get_logger("chronicled.worker")


class Crew(Protocol):
    """Who acts on what a generation says. All of it on the event loop, none of it may raise."""

    @property
    def registry(self) -> Registry:
        """The kinds that this worker knows."""
        ...

    def on_frame(self, generation: Generation, frame: ToWorker) -> None:
        """Take a frame."""
        ...

    def on_status(self, generation: Generation, status: Status) -> None:
        """Take the server's answer on what it knows; after it the generation is ready."""
        ...

    def on_absence(self, generation: Generation) -> None:
        """Learn that the link has ended."""
        ...

    def on_failure(self, error: Exception) -> None:
        """Learn that the session cannot go on like this."""
        ...


class Generation:
    """One action server: who it is, whether it can be spoken to.

    Args:
        id: The generation.
        sandbox_id: The sandbox that it lives in.
        expected: Whom its socket expects; None makes the generation unreachable for ever.
        fresh: True when it is started now, so that it can know no action yet.
        crew: Who acts on what it says.
    """

    def __init__(self, id: str, sandbox_id: str, expected: Expected, *, fresh: bool, crew: Crew) -> None:
        self.id = id
        self.sandbox_id = sandbox_id
        self.sandbox: Sandbox | None = None
        self.link: Link | None = None
        self.hello: Hello | None = None
        self.kinds: frozenset[str] = frozenset()
        self.greeted = anyio.Event()
        """The first handshake of this worker with it is done."""
        self.recorded = False
        """Its `generation_started` is in the log: only then may anything be sent to it."""
        self.reconciled = False
        """What it knows has been compared with what is open, over the present link."""
        self.end_reason: str | None = None
        """Why this worker is ending it, if it is."""
        self._expected = expected
        self._fresh = fresh
        self._crew = crew

    @property
    def ready(self) -> bool:
        """Whether it can be sent actions."""
        return self.recorded and self.reconciled and self.link is not None

    def unable(self, kind: str) -> Ending | None:
        """Return how an action of that kind ends since it cannot be executed here; None if it can, or may."""
        return None if self.hello is None else unable(self.hello, self._crew.registry, kind)

    def send(self, frame: ToServer, descriptor: int | None = None, content: int | None = None) -> None:
        """Send a frame if there is a link; without one it is lost, and the next status brings that to light."""
        if self.link is not None:
            self.link.send(frame, descriptor, content)

    async def serve(self, link: Link) -> None:
        """Serve one connection until it ends: handshake, status, frames. Never raises but for cancellation."""
        try:
            hello = await shake_hands(link, self._expected)
        except ProtocolError as error:
            _log.warning("handshake_refused", generation=self.id, detail=error.detail)
            link.close()
            return
        except StaleFence as error:
            link.close()
            self._crew.on_failure(error)
            return
        if self.link is not None:
            self.link.close()
        self.link, self.hello = link, hello
        self.kinds = frozenset(executable(hello, self._crew.registry))
        try:
            await self._converse(link)
        except ProtocolError as error:
            _log.warning("protocol_error", generation=self.id, detail=error.detail)
        finally:
            link.close()
            if self.link is link:
                self.link = None
                self.reconciled = False
                self._crew.on_absence(self)

    async def _converse(self, link: Link) -> None:
        if self._fresh:
            # It has just been born: there is nothing to ask, and the first action need not wait for an answer.
            self._fresh = False
            self.reconciled = True
            self.greeted.set()
        else:
            link.send(Query())
            with anyio.move_on_after(self._expected.seconds) as patience:
                while not isinstance(frame := await link.receive(), Status):
                    if frame is None:
                        return
                    self._crew.on_frame(self, frame)
                self.reconciled = True
                self._crew.on_status(self, frame)
            if patience.cancelled_caught:
                raise ProtocolError("It did not say what it runs.")
            self.greeted.set()
        while self.link is link and (frame := await link.receive()) is not None:
            self._crew.on_frame(self, frame)

    def hang_up(self) -> None:
        """Close the link; the server may dial again."""
        if self.link is not None:
            self.link.close()
