"""A daemon's HTTP side that does what a test tells it to, one scripted answer after another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.stream_server import stream_server

from chronicled.events.envelope import Event

Write = asyncio.StreamWriter
Reply = Callable[["Received", Write], Awaitable[None]]


class Received:
    """One request as it came."""

    def __init__(self, line: str, headers: dict[str, str], body: bytes) -> None:
        self.method, self.target, _ = line.split(" ", 2)
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class ScriptedServer:
    """Answers each request with the next reply of its script; the last one is repeated."""

    def __init__(self, socket: Path, *script: Reply) -> None:
        self.socket = socket
        self.script = list(script)
        self.received: list[Received] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: Write) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Received(head[0], headers, body)
        self.received.append(request)
        reply = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await reply(request, writer)

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[ScriptedServer]:
        """Listen for the time of the context."""
        async with stream_server(self._serve, self.socket):
            yield self


def answer(status: int, body: Any, **headers: str) -> Reply:
    """Reply with a whole JSON answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return raw(status, data, None, content_type="application/json", **headers)


def raw(status: int, data: bytes, length: int | None = None, **headers: str) -> Reply:
    """Reply with these bytes; a `length` beyond them makes the connection break in the middle."""

    async def reply(request: Received, writer: Write) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data) if length is None else length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + data)
        await writer.drain()

    return reply


def problem(status: int, code: str, detail: str = "told so", **extra: Any) -> Reply:
    """Reply with a problem document."""
    members = {"type": f"urn:chronicled:problem:{code}", "title": "t", "status": status, "detail": detail, "code": code}
    return answer(status, {**members, "instance": "urn:x", "retryable": status == 503, **extra})


async def hang_up(request: Received, writer: Write) -> None:
    """Take the request and close the connection without a word."""


def stream(data: bytes) -> Reply:
    """Send a piece of an event stream, then lose the connection."""

    async def reply(request: Received, writer: Write) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + data)
        await writer.drain()

    return reply


def event(position: int, kind: str = "message", category: str = "action", **changes: Any) -> dict[str, Any]:
    """Return an event as the wire has it."""
    found = {
        "position": position,
        "tenant": "default",
        "session": "s",
        "sequence": position,
        "id": f"00000000-0000-7000-8000-{position:012d}",
        "kind": kind,
        "version": 1,
        "category": category,
        "lane": "main",
        "source": "client",
        "actor": "uid:0",
        "time": "2026-11-21T04:00:00.000000Z",
        "payload": {"content": f"event {position}"},
        "leaf": "00" * 32,
    }
    return {**found, **changes}


def message(position: int, **changes: Any) -> bytes:
    """Return an event as a server-sent event."""
    data = json.dumps(event(position, **changes))
    return f"id: {position}@inc\nevent: message\ndata: {data}\n\n".encode()


def positions(events: list[Event]) -> list[int]:
    """Return where the events stand."""
    return [each.position for each in events]
