"""The HTTP API as a stranger speaks it: no code of the product, so that a bug in our client hides nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

__all__ = ["Answer", "Api", "Disconnected", "Frame", "ready"]

CONNECT_SECONDS = 2.0
FRAME_BYTES_MAX = 8 << 20


class Disconnected(Exception):
    """Raised when no whole answer came: whether the request was carried out is unknown."""


@dataclass(frozen=True)
class Answer:
    """One answer, its members undecoded, so that events can be compared byte for byte."""

    status: int
    body: bytes

    @property
    def members(self) -> dict[str, msgspec.Raw]:
        """The JSON object's members, each as it was sent."""
        return msgspec.json.decode(self.body, type=dict[str, msgspec.Raw])

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The last part of the problem's type, or the status where there is none."""
        try:
            return str(self.json["type"]).rpartition("/")[2].rpartition(":")[2]
        except (ValueError, KeyError, TypeError):
            return str(self.status)


@dataclass(frozen=True)
class Frame:
    """One server-sent event."""

    id: bytes
    event: bytes
    data: bytes


class Api:
    """Calls over one Unix socket. Use as an async context manager."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Api:
        connector = aiohttp.UnixConnector(path=self._socket, limit=64, force_close=False)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False, read_bufsize=1 << 20)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 15.0,
    ) -> Answer:
        """Send one request and return the whole answer.

        Raises:
            Disconnected: the connection broke or nothing came in time.
        """
        assert self._session is not None
        data = None if body is None else msgspec.json.encode(body)
        sent = dict(headers or {})
        if data is not None:
            sent["Content-Type"] = "application/json"
        limit = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.request(method, f"http://x{path}", data=data, headers=sent, timeout=limit) as got:
                return Answer(got.status, await got.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Disconnected(f"{method} {path}: {error!r}") from error

    async def events(self, path: str, after: str) -> AsyncIterator[Frame]:
        """Follow server-sent events behind cursor `after` until the connection ends.

        Raises:
            Disconnected: the connection broke, or could not be made.
        """
        assert self._session is not None
        headers = {"Accept": "text/event-stream", "Last-Event-ID": after}
        limit = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=60.0)
        try:
            async with self._session.get(f"http://x{path}", headers=headers, timeout=limit) as got:
                if got.status != 200:
                    raise Disconnected(f"GET {path}: {got.status} {(await got.read())[:300]!r}")
                async for frame in _frames(got.content):
                    yield frame
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Disconnected(f"GET {path}: {error!r}") from error
        raise Disconnected(f"GET {path}: the stream ended")


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[Frame]:
    buffer = bytearray()
    async for chunk in content.iter_any():
        buffer += chunk
        assert len(buffer) <= FRAME_BYTES_MAX, "one server-sent event is larger than the limit"
        # Only whole messages count: what a crash cut off in its middle is not an event.
        *whole, rest = bytes(buffer).split(b"\n\n")
        buffer = bytearray(rest)
        for message in whole:
            fields = dict(line.split(b": ", 1) for line in message.split(b"\n") if b": " in line and line[:1] != b":")
            if b"id" in fields:
                yield Frame(*(fields.get(name, b"") for name in (b"id", b"event", b"data")))


async def ready(socket: str) -> bool:
    """Ask `/readyz` once, on a connection of its own, in a tenth of what the HTTP library costs."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), CONNECT_SECONDS)
        return b" 200 " in line
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
