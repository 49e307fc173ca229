"""An export that a daemon makes of a session, while it comes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aiohttp

from chronicled.client.transport import LOST, Transport

__all__ = ["SessionExport", "open_export"]

HEAD_HEADER: Final = "X-Export-Head"


class SessionExport:
    """What a session is in another system's format, up to one position."""

    def __init__(self, transport: Transport, response: aiohttp.ClientResponse) -> None:
        self._transport = transport
        self._response = response

    @property
    def head(self) -> int:
        """The position up to which it goes."""
        return int(self._response.headers.get(HEAD_HEADER, 0))

    @property
    def media(self) -> str:
        """Its media type."""
        return self._response.content_type

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield its bytes as they come; when this ends without an error, they are all there are.

        Raises:
            NotReachable: the connection broke, so what came is not whole. It is not taken up again: a second export
                would go up to another position.
        """
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except LOST as error:
            raise self._transport.unreachable(error) from None


@asynccontextmanager
async def open_export(transport: Transport, path: str, query: dict[str, str]) -> AsyncGenerator[SessionExport]:
    """Ask for an export; leaving it in the middle ends it.

    Raises:
        NotReachable: no daemon answers.
        ChronicledError: the problem that the daemon answered with.
    """
    async with AsyncExitStack() as stack:
        try:
            response = await stack.enter_async_context(transport.stream(path, query, {}))
        except LOST as error:
            raise transport.unreachable(error) from None
        yield SessionExport(transport, response)
