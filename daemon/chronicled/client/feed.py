"""The event feed: server-sent events as an iterator that survives reconnects by itself."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, Protocol

import msgspec

from chronicled.client.transport import LOST, Transport
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, ProtocolError

__all__ = ["Content", "follow", "messages", "read"]

QUIET_SECONDS_MAX: Final = 45.0
"""The daemon sends a heartbeat every 15 s; a connection that is quiet for three of them is taken for dead."""
LASTING_SECONDS: Final = 5.0
"""A connection that lasted so long, even without an event, ends the count of what was lost before it."""
LINE_BYTES_MAX: Final = 8 << 20

_event = msgspec.json.Decoder(Event)


class Content(Protocol):
    """What bytes come from."""

    async def readany(self) -> bytes:
        """Return the next bytes, empty at the end."""
        ...


class _Page(msgspec.Struct):
    events: list[Event]
    next: int
    at_end: bool
    incarnation: str


_page = msgspec.json.Decoder(_Page)


async def read(
    transport: Transport, path: str, after: Cursor, kinds: Sequence[str] = (), limit: int = 500
) -> AsyncGenerator[Event, None]:
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
) -> AsyncGenerator[Event, None]:
    """Yield each event behind `after` once, in order, for ever.

    Raises:
        ChronicledError: as the daemon says, e.g. `CursorGone`; `NotReachable` when it stays away for longer than the
            transport tries.
    """
    pauses = transport.pauses()
    loop = asyncio.get_running_loop()
    while True:
        connected = math.inf
        query = {"after": str(after)} | ({"kind": ",".join(kinds)} if kinds else {})
        try:
            async with transport.stream(path, query, {"Accept": "text/event-stream"}) as response:
                connected = loop.time()
                async for id, data in messages(response.content):
                    pauses = transport.pauses()
                    after = Cursor.parse(id)
                    if data:
                        yield _event.decode(data)
            lost: Exception = ConnectionError("the daemon ended the stream")
        except LOST as error:
            lost = error
        except ChronicledError as error:
            if not error.retryable:
                raise
            lost = error
        if loop.time() - connected > LASTING_SECONDS:
            pauses = transport.pauses()
        if (pause := next(pauses, None)) is None:
            raise transport.unreachable(lost) from None
        await asyncio.sleep(pause)


async def messages(content: Content) -> AsyncIterator[tuple[str, bytes]]:
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
