"""Requests to the daemon: problems become errors of ours, lost connections are tried again where that is safe."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any, Final

import aiohttp
import msgspec

from chronicled.client.address import SYSTEM_SOCKET, Address
from chronicled.events.errors import (
    ChronicledError,
    Conflict,
    InvalidRequest,
    NotFound,
    NotReachable,
    Refused,
    Unavailable,
    errors_by_code,
)
from chronicled.events.versions import CURRENT, Versions

__all__ = ["LOST", "Transport", "problem_error"]

CONNECT_SECONDS_MAX: Final = 5.0
CONNECTIONS_MAX: Final = 256
PAUSE_SECONDS_FIRST: Final = 0.05
PAUSE_SECONDS_MAX: Final = 1.0
UNIX_PATH_BYTES_MAX: Final = 107
PIECE_BYTES_MAX: Final = 1 << 20

LOST: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)
"""What a connection that is lost, or never came to be, raises."""


class Transport:
    """One connection pool to one daemon.

    Args:
        address: Where the daemon is.
        token: Bearer token, for TCP.
        retry_seconds: How long a lost connection or a retryable problem is tried again before the error is raised.
        answer_seconds: Longest wait for an answer, beside what the request itself asks to wait.
        versions: Which versions of payloads the daemon may answer with.
    """

    def __init__(
        self,
        address: Address,
        token: str | None,
        retry_seconds: float,
        answer_seconds: float,
        versions: Versions = CURRENT,
    ) -> None:
        self.address = address
        self.retry_seconds = retry_seconds
        self._answer_seconds = answer_seconds
        self._folder: int | None = None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if versions != CURRENT:
            headers["Accept-Version"] = str(versions)
        connector: aiohttp.BaseConnector
        if address.socket is not None:
            connector = aiohttp.UnixConnector(path=self._short(address.socket), limit=CONNECTIONS_MAX)
        else:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX)
        # Not `connect`: that would also count the time in which all connections are taken by requests that wait.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
        self._http = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._http.closed:
            raise RuntimeError("This client is closed: its `async with connect(...)` block is over.")
        return self._http

    def _short(self, path: str) -> str:
        """Return a path that the kernel takes (107 bytes), where need be by way of a descriptor of its directory."""
        if len(os.fsencode(path)) <= UNIX_PATH_BYTES_MAX:
            return path
        folder, name = os.path.split(path)
        try:
            self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return path
        return f"/proc/self/fd/{self._folder}/{name}"

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        wait_seconds: float = 0.0,
        repeatable: bool = True,
        retry_seconds: float | None = None,
        on_loss: Callable[[], None] = lambda: None,
    ) -> bytes:
        """Send a request and return the answer's body.

        A repeatable request is sent again after a lost connection: it must carry an id or a key, or change nothing when
        repeated. Others are sent again only where the daemon cannot have seen them. `on_loss` is called whenever it is
        sent again although the daemon may have seen it.

        Raises:
            InvalidRequest: a text in the body has no UTF-8 form; nothing was sent.
            NotReachable: no connection, or it was lost, for longer than `retry_seconds`.
            ChronicledError: the problem that the daemon answered with, by its code.
        """
        data = None if body is None else _encoded(body)

        async def attempt() -> bytes:
            async with asyncio.timeout(self._answer_seconds + wait_seconds):
                return await self._once(method, path, data, dict(headers or {}), dict(query or {}))

        pauses = _Pauses(self.retry_seconds if retry_seconds is None else retry_seconds)
        return await self._answered(attempt, pauses, on_loss if repeatable else None)

    async def _answered(
        self, attempt: Callable[[], Awaitable[bytes]], pauses: _Pauses, on_loss: Callable[[], None] | None
    ) -> bytes:
        """Try until there is an answer, as long as there are pauses; without `on_loss` never twice after a loss."""
        while True:
            try:
                return await attempt()
            except aiohttp.ClientConnectorError as error:
                lost: Exception = error
            except LOST as error:
                if on_loss is None:
                    raise self._unreachable(error) from None
                on_loss()
                lost = error
            except ChronicledError as error:
                # Also a refusal for the moment: the daemon is starting, draining, or has much to do.
                if not error.retryable:
                    raise
                lost = error
            if (pause := next(pauses, None)) is None:
                raise lost if isinstance(lost, ChronicledError) else self._unreachable(lost) from None
            await asyncio.sleep(pause)

    async def send(
        self,
        method: str,
        path: str,
        body: IO[bytes],
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        wait_seconds: float = 0.0,
    ) -> bytes:
        """Send a body of bytes and return the answer's body; it must carry a key, for it is sent again when lost.

        How long the body takes to be sent is not bounded here: the daemon ends a body that stalls. From then on the
        answer may take as long as any, and `wait_seconds` more.

        Raises:
            NotReachable: no connection, or it was lost, for longer than `retry_seconds`.
            ChronicledError: the problem that the daemon answered with, by its code.
        """
        seconds = self._answer_seconds + wait_seconds

        async def attempt() -> bytes:
            return await self._once(method, path, _Whole(body), dict(headers), dict(query), seconds)

        return await self._answered(attempt, self.pauses(), lambda: None)

    async def _once(
        self,
        method: str,
        path: str,
        data: bytes | _Whole | None,
        headers: dict[str, str],
        query: dict[str, str],
        silence_seconds: float | None = None,
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX, sock_read=silence_seconds)
        body: Any = data
        if isinstance(data, bytes):
            headers["Content-Type"] = "application/json"
            # aiohttp warns of large bytes, which it writes at one go; from a file it takes them in pieces.
            body = io.BytesIO(data) if len(data) > PIECE_BYTES_MAX else data
        elif data is not None:
            headers["Content-Length"] = str(data.size)
            body = data.pieces()
        async with self._open.request(
            method, self.address.base + path, data=body, headers=headers, params=query, timeout=timeout
        ) as response:
            answer = await response.read()
            if response.status >= 400:
                raise problem_error(response.status, answer)
            return answer

    @asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Open a GET whose answer is read as it comes.

        Raises:
            aiohttp.ClientError, ConnectionError: no connection, or lost; the caller takes it up again.
            ChronicledError: the problem that the daemon answered with.
        """
        async with self._open.get(self.address.base + path, params=dict(query), headers=dict(headers)) as response:
            if response.status >= 400:
                raise problem_error(response.status, await response.read())
            yield response

    def pauses(self) -> _Pauses:
        """Return the pauses between attempts: growing, with jitter, over `retry_seconds` in all."""
        return _Pauses(self.retry_seconds)

    def _unreachable(self, error: Exception) -> NotReachable:
        # aiohttp's own words for it name its connector and TLS; the system's word is what a person needs.
        if not isinstance(error, aiohttp.ClientConnectorError):
            cause = "the answer broke off" if isinstance(error, aiohttp.ClientPayloadError) else str(error)
            return NotReachable(
                f"The connection to the daemon at {self.address} was lost ({cause or type(error).__name__})."
            )
        cause = error.os_error.strerror or type(error).__name__
        if isinstance(error.os_error, PermissionError):
            return NotReachable(
                f"This user may not call the daemon at {self.address} ({cause}); `http.allowed_uids` in its "
                "configuration names those who may."
            )
        hint = "is `chronicled serve` running?"
        if str(self.address) != SYSTEM_SOCKET and os.path.exists(SYSTEM_SOCKET):
            hint = f"the system's is at {SYSTEM_SOCKET}: CHRONICLED_SOCKET, or `--socket`."
        return NotReachable(f"No daemon answers at {self.address} ({cause}); {hint}")

    def unreachable(self, error: Exception) -> NotReachable:
        """Return the error for a connection that stayed lost."""
        return self._unreachable(error)


def _encoded(body: Any) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"A text is not valid UTF-8: {error.object[:200]!r}.") from None


class _Whole:
    """A file's bytes from its start, each time that they are sent; aiohttp would close the file after the first."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield them."""
        self._file.seek(0)
        while piece := await asyncio.to_thread(self._file.read, PIECE_BYTES_MAX):
            yield piece


class _Pauses:
    """An iterator of pauses in seconds that ends once `seconds` have been spent since the first was asked for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None
        self._pause = PAUSE_SECONDS_FIRST

    def __iter__(self) -> _Pauses:
        return self

    def __next__(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._end is None:
            self._end = now + self._seconds
        if now >= self._end:
            raise StopIteration
        pause = self._pause * random.uniform(0.5, 1.0)
        self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)
        return min(pause, max(0.001, self._end - now))


class _Problem(msgspec.Struct):
    code: str = "internal"
    detail: str = ""


def problem_error(status: int, body: bytes) -> ChronicledError:
    """Return the error that a problem document stands for: by its code, else by the status."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
        members: dict[str, Any] = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _by_status(status)(f"The daemon answered {status} without a problem document: {body[:200]!r}.")
    standard = {"type", "title", "status", "detail", "instance", "code", "retryable"}
    extra = {k: v for k, v in members.items() if k not in standard and isinstance(v, str | int | bool)}
    return errors_by_code().get(problem.code, _by_status(status))(problem.detail, **extra)


def _by_status(status: int) -> type[ChronicledError]:
    known: dict[int, type[ChronicledError]] = {403: Refused, 404: NotFound, 409: Conflict}
    if status in {502, 503, 504}:
        return Unavailable
    return known.get(status, InvalidRequest if 400 <= status < 500 else ChronicledError)
