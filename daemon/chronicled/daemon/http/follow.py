"""Following the log as server-sent events: a commit goes out in one write, encoded once for all who want the same."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

import anyio
from aiohttp import web

from chronicled.daemon.http.call import Call
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.events.codec import encode_json
from chronicled.events.errors import StoreClosed
from chronicled.events.store import Filter, Page
from chronicled.events.stream import EventStream

__all__ = ["Follower", "encode_page"]

HEARTBEAT_SECONDS: Final = 15.0
HEARTBEAT: Final = b": heartbeat\n\n"
CACHE_PAGES_MAX: Final = 64
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def encode_page(page: Page, incarnation: str) -> bytes:
    """Return the page as server-sent events; a page of nothing wanted is a message with an `id:` only."""
    parts = [
        b"id: %d@%s\nevent: %s\ndata: %s\n\n"
        % (event.position, incarnation.encode(), event.kind.encode(), _one_line(encode_json(event)))
        for event in page.events
    ]
    if not page.events or page.next != page.events[-1].position:
        parts.append(b"id: %d@%s\n\n" % (page.next, incarnation.encode()))
    return b"".join(parts)


def _one_line(data: bytes) -> bytes:
    # Between its tokens foreign JSON may hold line ends, which would end the field; inside strings they are escaped.
    return data.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in data or b"\r" in data else data


class Follower:
    """Serves event streams.

    Args:
        stream: The log.
        subscribers: Counts and bounds those who follow.
        write_seconds_max: A reader that takes nothing for so long is dropped.
    """

    def __init__(self, stream: EventStream, subscribers: Subscribers, write_seconds_max: float) -> None:
        self._stream = stream
        self._subscribers = subscribers
        self._write_seconds_max = write_seconds_max
        self._encoded: OrderedDict[Any, bytes] = OrderedDict()

    async def follow(self, call: Call, after: int, where: Filter) -> web.StreamResponse:
        """Send everything wanted behind `after`, then follow until the reader or the daemon goes.

        Raises:
            Overloaded: too many follow already.
        """
        with self._subscribers.one():
            response = web.StreamResponse(headers=HEADERS)
            response.content_type = "text/event-stream"
            await response.prepare(call.request)
            await response.write(b"retry: 1000\n\n")
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._heartbeat, response)
                    await self._send(response, after, where)
                    group.cancel_scope.cancel()
            except* (ConnectionError, TimeoutError, StoreClosed):
                response.force_close()
        return response

    async def _send(self, response: web.StreamResponse, after: int, where: Filter) -> None:
        async with self._stream.subscribe(after, where) as pages:
            async for page in pages:
                async with asyncio.timeout(self._write_seconds_max):
                    await response.write(self._encode(page, where))

    async def _heartbeat(self, response: web.StreamResponse) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            async with asyncio.timeout(self._write_seconds_max):
                await response.write(HEARTBEAT)

    def _encode(self, page: Page, where: Filter) -> bytes:
        first = page.events[0].position if page.events else page.next
        key = (where, first, page.next, len(page.events))
        data = self._encoded.get(key)
        if data is None:
            data = self._encoded[key] = encode_page(page, self._stream.incarnation)
            if len(self._encoded) > CACHE_PAGES_MAX:
                self._encoded.popitem(last=False)
        return data
