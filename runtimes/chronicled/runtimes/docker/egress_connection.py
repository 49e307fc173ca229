"""One connection of a sandbox to its proxy: read what it wants, judge it, and carry bytes."""

from __future__ import annotations

import contextlib
from typing import Final, Protocol

import anyio
import structlog
from anyio.abc import ByteStream

from chronicled.runtimes.docker.egress_body import BodyEnd
from chronicled.runtimes.docker.egress_denials import Denials
from chronicled.runtimes.docker.egress_dial import Denied, DialFailed, dial
from chronicled.runtimes.docker.egress_hello import Greeting, GreetingReader
from chronicled.runtimes.docker.egress_request import HEAD_BYTES_MAX, BadRequest, ProxyRequest, parse_head
from chronicled.runtimes.docker.egress_rules import Rules
from chronicled.runtimes.docker.network_settings import AllowSettings

__all__ = ["Budget", "EgressConnection", "Scope", "answer", "reply"]

HEAD_SECONDS: Final = 30.0
LINGER_SECONDS: Final = 2.0
CHUNK_BYTES: Final = 64 << 10
_log = structlog.get_logger("chronicled.egress")


class Budget:
    """How many bytes a sandbox may still move.

    Args:
        bytes_max: None for any number.
    """

    def __init__(self, bytes_max: int | None) -> None:
        self._left = bytes_max
        self.spent = 0

    def spend(self, count: int) -> bool:
        """Take from it; return False when it is used up."""
        self.spent += count
        if self._left is None:
            return True
        self._left -= count
        return self._left >= 0


class Scope(Protocol):
    """What all connections of one sandbox share."""

    policy: str
    settings: AllowSettings
    rules: Rules
    budget: Budget
    denials: Denials
    label: str

    async def resolve(self, name: str) -> list[str]:
        """Return the addresses of a name; a `Resolve`."""
        ...


class _Ended(Exception):
    """Raised to end a connection that has been told all it needs to know."""


_EXPECTED: Final = (_Ended, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


class EgressConnection:
    """One connection.

    Args:
        stream: The sandbox's side.
        scope: What the sandbox's connections share.
    """

    def __init__(self, stream: ByteStream, scope: Scope) -> None:
        self._near = stream
        self._scope = scope
        self._host, self._port = "", 0
        self._sent = self._received = 0
        self._idle = anyio.CancelScope()

    async def serve(self) -> None:
        """Serve until either side ends it; what the sandbox or the network does raises nothing."""
        try:
            await self._serve()
        except _EXPECTED:
            pass
        except BaseExceptionGroup as group:
            _, others = group.split(_EXPECTED)
            if others is not None:
                raise others from None
        finally:
            await anyio.aclose_forcefully(self._near)

    async def _serve(self) -> None:
        try:
            with anyio.fail_after(HEAD_SECONDS):
                head, rest = await self._read_head()
            request = parse_head(head)
        except (TimeoutError, anyio.EndOfStream):
            return
        except BadRequest as error:
            self._scope.denials.note(self._host, self._port, "bad_request")
            await self._answer(400, str(error))
            return
        self._host, self._port = request.host, request.port
        scope = self._scope
        try:
            far = await dial(scope.rules, request.host, request.port, scope.resolve, scope.settings.connect_seconds)
        except Denied as denied:
            scope.denials.note(request.host, request.port, denied.reason)
            await self._refuse(request, denied)
            return
        except DialFailed as error:
            await self._answer(502, f"{request.host}:{request.port} cannot be reached. {error}")
            return
        began = anyio.current_time()
        try:
            async with far:
                with self._idle:
                    self._touch()
                    await self._exchange(request, far, rest)
        finally:
            _log.info(
                "egress",
                sandbox=scope.label,
                host=request.host,
                port=request.port,
                bytes_sent=self._sent,
                bytes_received=self._received,
                seconds=round(anyio.current_time() - began, 3),
            )

    async def _read_head(self) -> tuple[bytes, bytes]:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > HEAD_BYTES_MAX:
                raise BadRequest(f"The head has more than {HEAD_BYTES_MAX} bytes.")
            data += await self._near.receive(CHUNK_BYTES)
        return data[: end + 4], data[end + 4 :]

    async def _exchange(self, request: ProxyRequest, far: ByteStream, rest: bytes) -> None:
        async with anyio.create_task_group() as tasks:
            if request.tunnel:
                await self._near.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                tasks.start_soon(self._receive, far)
                await self._send_tunnel(far, rest)
                await far.send_eof()
            else:
                await self._send(far, request.head)
                tasks.start_soon(self._send_body, far, rest, BodyEnd(request.body_bytes))
                await self._receive(far)
                # One request, one answer: what the client may still send is for nobody.
                tasks.cancel_scope.cancel()

    async def _receive(self, far: ByteStream) -> None:
        while True:
            try:
                data = await far.receive(CHUNK_BYTES)
            except anyio.EndOfStream:
                await self._near.send_eof()
                return
            self._received += len(data)
            self._spend(len(data))
            await self._near.send(data)

    async def _send_tunnel(self, far: ByteStream, rest: bytes) -> None:
        first = await self._judge_greeting(rest)
        if first:
            await self._send(far, first)
        while True:
            try:
                data = await self._near.receive(CHUNK_BYTES)
            except anyio.EndOfStream:
                return
            await self._send(far, data)

    async def _judge_greeting(self, data: bytes) -> bytes:
        """Return the client's first bytes, once they are known not to ask for somebody else than was allowed."""
        reader = GreetingReader()
        greeting, pieces = reader.feed(data), [data]
        while greeting is Greeting.UNFINISHED:
            try:
                pieces.append(await self._near.receive(CHUNK_BYTES))
            except anyio.EndOfStream:
                return b"".join(pieces)
            greeting = reader.feed(pieces[-1])
        data = b"".join(pieces)
        if isinstance(greeting, str):
            # A name of the list's own may stand for another one of the list: a client may reuse a connection.
            if greeting == self._host or self._scope.rules.allows(greeting, self._port):
                return data
            if self._scope.rules.is_address(self._host):
                return data
            self._scope.denials.note(greeting, self._port, "sni_mismatch")
            raise _Ended
        if greeting is Greeting.BROKEN:
            self._scope.denials.note(self._host, self._port, "bad_request")
            raise _Ended
        return data

    async def _send_body(self, far: ByteStream, data: bytes, end: BodyEnd) -> None:
        try:
            while True:
                count = end.take(data)
                await self._send(far, data[:count])
                if end.over:
                    break
                data = await self._near.receive(CHUNK_BYTES)
        except BadRequest:
            self._scope.denials.note(self._host, self._port, "bad_request")
            raise _Ended from None
        # More bytes are for nobody; that a client has no more to say does not mean that it will not listen.
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                await self._near.receive(CHUNK_BYTES)

    async def _send(self, far: ByteStream, data: bytes) -> None:
        self._sent += len(data)
        self._spend(len(data))
        await far.send(data)

    def _spend(self, count: int) -> None:
        self._touch()
        if not self._scope.budget.spend(count):
            self._scope.denials.note(self._host, self._port, "bytes_max")
            raise _Ended

    def _touch(self) -> None:
        self._idle.deadline = anyio.current_time() + self._scope.settings.idle_seconds

    async def _refuse(self, request: ProxyRequest, denied: Denied) -> None:
        asked = f"{request.host}:{request.port}"
        if denied.reason == "unresolved":
            await self._answer(502, f"{request.host} has no address.")
            return
        why = "leads to an address that is not public" if denied.reason == "private_address" else "is not allowed"
        await self._answer(403, f"{asked} {why}: network policy {self._scope.policy!r} of this sandbox.")

    async def _answer(self, status: int, text: str) -> None:
        await reply(self._near, answer(status, text))


async def reply(stream: ByteStream, data: bytes) -> None:
    """Send the last bytes of a connection, and wait until the other side has had time to take them.

    What it still sends meanwhile is dropped: closed with that unread, the connection would be reset and the reply lost.
    """
    with anyio.move_on_after(LINGER_SECONDS):
        await stream.send(data)
        await stream.send_eof()
        while True:
            await stream.receive(CHUNK_BYTES)


def answer(status: int, text: str) -> bytes:
    """Return an answer of the proxy's own, after which it closes."""
    phrase = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway", 503: "Service Unavailable"}[status]
    body = f"chronicled: {text}\n".encode()
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
