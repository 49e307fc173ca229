"""A server of the tests' own, of which nothing is left when its test is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["stream_server"]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def stream_server(serve: Serve, path: Path | None = None) -> AsyncGenerator[int]:
    """Serve connections to a Unix socket, or else to a port of the loopback, which is given.

    At the end those that still go on are cancelled, and all are closed. `asyncio.start_server` alone waits for none:
    one that the loop's end cuts off is never closed, and is told as a leak in whatever test runs by then.
    """
    open_now: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # What the other side does to its connection is no mistake of the server's.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                try:
                    await serve(reader, writer)
                finally:
                    writer.close()
                await writer.wait_closed()
        finally:
            # Where it was cancelled, what the other side does not read is not waited for.
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(one(reader, writer))
        open_now.add(task)
        task.add_done_callback(open_now.discard)

    if path is None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    else:
        server, port = await asyncio.start_unix_server(accept, path), 0
    try:
        yield port
    finally:
        server.close()
        # What was accepted and not handed over yet is handed over in the loop's next round.
        await asyncio.sleep(0)
        for task in open_now:
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
