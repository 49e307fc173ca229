"""The event feed: server-sent events as an iterator that survives reconnects by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import aiohttp
import msgspec

from chronicled.client.transport import Transport
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, ProtocolError

__all__ = ["follow", "read"]

QUIET_SECONDS_MAX: Final = 45.0
"""The daemon sends a heartbeat every 15 s; a connection that is quiet for three of them is taken for dead."""
LINE_BYTES_MAX: Final = 8 << 20

_event = msgspec.json.Decoder(Event)


class _Page(msgspec.Struct):
    events: list[Event]
    next: int
    at_end: bool
    incarnation: str


_page = msgspec.json.Decoder(_Page)


async def read(
    transport: Transport, path: str, after: Cursor, kinds: Sequence[str] = (), limit: int = 500
) -> AsyncIterator[Event]:
    """Yield what is there behind `after`, page by page, and end at the log's end.

    Raises:
        ChronicledError: as the daemon says, e.g. `CursorGone`; `NotReachable` when it stays away.
    """
    while True:
        query = {"after": str(after), "limit": str(limit)} | ({"kind": ",".join(kinds)} if kinds else {})
        page = _page.decode(await transport.request("GET", path, query=query))
        for event in page.events:
            yield event
        if page.at_end:
            return
        after = Cursor(page.next, page.incarnation)


async def follow(
    transport: Transport, path: str, after: Cursor, kinds: Sequence[str] = ()
) -> AsyncIterator[tuple[Event, Cursor]]:
    """Yield each event behind `after` once, in order, for ever, with the cursor that stands behind it.

    Raises:
        ChronicledError: as the daemon says, e.g. `CursorGone`; `NotReachable` when it stays away for longer than the
            transport tries.
    """
    pauses = transport.pauses()
    while True:
        query = {"after": str(after)} | ({"kind": ",".join(kinds)} if kinds else {})
        try:
            async with transport.stream(path, query, {"Accept": "text/event-stream"}) as content:
                async for id, data in _messages(content):
                    pauses = transport.pauses()
                    after = Cursor.parse(id)
                    if data:
                        yield _event.decode(data), after
            lost: Exception = ConnectionError("the daemon ended the stream")
        except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
            lost = error
        except ChronicledError as error:
            if not error.retryable:
                raise
            lost = error
        if (pause := next(pauses, None)) is None:
            raise transport.unreachable(lost) from None
        await asyncio.sleep(pause)


async def _messages(content: aiohttp.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    """Yield (id, data) of each message that has an id; what the connection's end cut off is not one."""
    id = ""
    data: list[bytes] = []
    rest = b""
    while True:
        async with asyncio.timeout(QUIET_SECONDS_MAX):
            chunk = await content.readany()
        if not chunk:
            return
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > LINE_BYTES_MAX:
            raise ProtocolError("The daemon sent an event stream with an endless line.")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"id:"):
                id = line[3:].strip().decode()
            elif not line:
                if id:
                    yield id, b"\n".join(data)
                id, data = "", []
