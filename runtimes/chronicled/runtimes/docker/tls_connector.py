"""What connects to an engine by TLS, and leaves nothing open once it is closed.

aiohttp forgets a connection as soon as it is done with it. A plain one is closed by then; one with TLS waits until the
other side has said goodbye too, for up to half a minute, and would outlive its connector, or even the event loop.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast
from weakref import WeakSet

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

__all__ = ["TlsConnector"]


class TlsConnector(aiohttp.TCPConnector):
    """A connector of which no connection is left after `close`, however silent the other side.

    Connections are not kept between calls.

    Args:
        context: How it verifies the other side.
        limit: Connections at once; 0 is no limit.
    """

    def __init__(self, context: ssl.SSLContext, limit: int) -> None:
        # Of one of its arguments the library does not tell the type.
        cast("Any", super()).__init__(limit=limit, force_close=True, ssl=context)
        # asyncio holds each until it is closed.
        self._opened: WeakSet[asyncio.Transport] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - as the library calls it
    ) -> Connection:
        """Return a connection."""
        connection = await super().connect(req, traces, timeout)
        if connection.transport is not None:
            self._opened.add(connection.transport)
        return connection

    async def close(self, *, abort_ssl: bool = True) -> None:
        """Close all connections, those too that are being closed already."""
        await super().close(abort_ssl=abort_ssl)
        for transport in [*self._opened]:
            transport.abort()
        # An aborted one is closed by the event loop's next turn.
        await asyncio.sleep(0)
