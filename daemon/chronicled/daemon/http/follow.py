"""Following the log as server-sent events: a commit goes out in one write, encoded once for all who want the same."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from aiohttp import web

from chronicled.daemon.http.call import Call
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.events.errors import StoreClosed
from chronicled.events.presentation import Presentation
from chronicled.events.store import Filter
from chronicled.events.stream import EventStream
from chronicled.events.versions import Versions
from chronicled.storage.sse import SharedMessages

__all__ = ["Follower"]

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT: Final = b": heartbeat\n\n"
OPENING: Final = b"retry: 1000\n\n"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Follower:
    """Serves event streams.

    Args:
        stream: The log.
        subscribers: Counts and bounds those who follow.
        presentation: Shows events in the versions that a reader understands.
        write_seconds_max: A reader that takes nothing for so long is dropped.
    """

    def __init__(
        self, stream: EventStream, subscribers: Subscribers, presentation: Presentation, write_seconds_max: float
    ) -> None:
        self._stream = stream
        self._presentation = presentation
        self._subscribers = subscribers
        self._write_seconds_max = write_seconds_max
        self._messages = SharedMessages(stream.incarnation)

    async def follow(
        self, call: Call, after: int, where: Filter, versions: Versions, kinds: frozenset[str]
    ) -> web.StreamResponse:
        """Send everything wanted behind `after`, then follow until the reader or the daemon goes; HEAD gets no stream.

        A stream that has begun cannot be refused any more: an event that the reader's versions cannot say is opaque.

        Args:
            call: Who follows.
            after: Exclusive.
            where: Which events, under every name that their kinds ever had.
            versions: What the reader understands.
            kinds: The kinds that it asked for.

        Raises:
            VersionUnavailable: there is no way from a current version to one that the reader declares.
            Overloaded: too many follow already.
        """
        self._presentation.check(versions, after)
        response = web.StreamResponse(headers=HEADERS)
        response.content_type = "text/event-stream"
        with self._subscribers.one():
            await response.prepare(call.request)
            if call.head_only:
                return response
            await self._write(response, OPENING)
            try:
                await self._send(response, after, where, versions, kinds)
            except (StoreClosed, TimeoutError):
                response.force_close()
        return response

    async def _send(
        self, response: web.StreamResponse, after: int, where: Filter, versions: Versions, kinds: frozenset[str]
    ) -> None:
        show = partial(self._presentation.show_all, versions=versions, kinds=kinds, refuses=False)
        wanted = (versions, kinds)
        async with self._stream.subscribe(after, where) as pages:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        page = await anext(pages)
                except TimeoutError:
                    # The stream is quiet: show that it lives, and find out whether its reader does.
                    await self._write(response, HEARTBEAT)
                else:
                    await self._write(response, self._messages.render(page, wanted, show))

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._write_seconds_max):
            await response.write(data)
