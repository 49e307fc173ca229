"""The HTTP server: connections, identity, dispatch to the route table, and every error as a problem document.

It stands on aiohttp's low-level server: no application, no middleware chain, no text errors of another's making.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from chronicled.daemon.configuration import LimitSettings
from chronicled.daemon.http import problem
from chronicled.daemon.http.call import Call
from chronicled.daemon.http.identity import Caller, Identity
from chronicled.daemon.http.route import Route, Router
from chronicled.daemon.metrics import Metrics
from chronicled.events.codec import encode_json
from chronicled.events.errors import (
    ChronicledError,
    InvalidRequest,
    NotFound,
    Overloaded,
    SecretsUnavailable,
    StoreFailed,
    Unavailable,
)

__all__ = ["Api", "Connection", "Listener"]

LINGERING_SECONDS: Final = 2.0
NOBODY: Final = Caller("", "", operator=False)

log: Any = structlog.get_logger("chronicled.http")


class Api:
    """Answers requests, whichever listener they came through.

    Args:
        router: The route table.
        limits: Bounds of requests.
        metrics: Where answers are counted.
        fail: Called when the log could not be written; ends the process and does not return.
        redact: Takes the secrets of a tenant's session out of a text.
    """

    def __init__(
        self,
        router: Router,
        limits: LimitSettings,
        metrics: Metrics,
        fail: Callable[[StoreFailed], None],
        redact: Callable[[str, str, str], str],
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self.draining = False
        self.in_flight = 0
        self._idle = asyncio.Event()
        self._router = router
        self._fail = fail
        self._redact = redact
        self._ids = itertools.count(1)
        self._id_prefix = os.urandom(4).hex()

    async def answer(self, request: web.BaseRequest, identity: Identity) -> web.StreamResponse:
        """Return the answer to one request; never raises but for cancellation and a lost connection."""
        id = self.new_id()
        self.in_flight += 1
        try:
            response = await self._dispatch(request, identity, id)
        except ChronicledError as error:
            response = self.refusal(error, id)
            # What is left of a refused body would be read as the next request.
            if request.body_exists and not request.content.is_eof():
                response.force_close()
        except (asyncio.CancelledError, ConnectionError):
            self.metrics.requests[499] += 1
            raise
        except Exception:
            log.exception("request failed", request=id, method=request.method, path=request.path)
            response = self.refusal(ChronicledError("Something failed inside; the daemon's log says what."), id)
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
        self.metrics.requests[response.status] += 1
        log.debug("request", request=id, method=request.method, path=request.path, status=response.status)
        return response

    async def idle(self) -> None:
        """Return once no request is being answered. Cancellation: safe."""
        while self.in_flight:
            self._idle.clear()
            await self._idle.wait()

    def refusal(self, error: ChronicledError, id: str) -> web.Response:
        """Return the problem document for `error`; ends the process when the log has failed."""
        if isinstance(error, StoreFailed):
            self._fail(error)
        if error.status >= 500:
            log.warning("request refused", request=id, code=error.code, detail=error.detail)
        return problem.response(error, id)

    def new_id(self) -> str:
        """Return the next request id."""
        return f"{self._id_prefix}-{next(self._ids)}"

    async def _dispatch(self, request: web.BaseRequest, identity: Identity, id: str) -> web.StreamResponse:
        path, query = split_target(request.raw_path)
        route, names = self._router.match(request.method, path)
        caller = self._caller(route, request, identity)
        if route.writes and self.draining:
            raise Unavailable("The daemon is stopping and takes nothing new; retry when it is back.")
        if query and route.query is None:
            raise InvalidRequest(f"{path[:200]} takes no query.")
        limits = self.limits
        call = Call(request, id, caller, names, query, limits.body_bytes_max, limits.body_seconds_max)
        try:
            return await route.handler(call)
        except ChronicledError as error:
            if "session" in names:
                self._clean(error, caller.tenant, names["session"])
            raise

    def _clean(self, error: ChronicledError, tenant: str, session: str) -> None:
        try:
            problem.reworded(error, partial(self._redact, tenant, session))
        except SecretsUnavailable as blocked:
            if not isinstance(error, SecretsUnavailable):
                error.detail, error.extra = blocked.detail, {}

    def _caller(self, route: Route, request: web.BaseRequest, identity: Identity) -> Caller:
        if route.open:
            return NOBODY
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the peer is gone")
        return identity.of(transport, request.headers.get("Authorization"))


def split_target(target: str) -> tuple[str, str]:
    """Return path and query of a request target, still percent-encoded; absolute form counts by its path.

    Raises:
        NotFound: the target is neither a path nor an absolute URL.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/"):
        scheme, separator, rest = path.partition("://")
        slash = rest.find("/")
        if not separator or scheme.lower() not in {"http", "https"} or slash < 0:
            raise NotFound(f"There is nothing at {target[:200]!r}.")
        path = rest[slash:]
    return path, query


class Connection(web.RequestHandler):
    """One connection. What cannot be parsed is answered with a problem document too, and the connection closed."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener, **settings: Any) -> None:
        super().__init__(listener, **settings)
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve the connection, unless there are too many."""
        super().connection_made(transport)
        listener = self._listener
        if listener.full:
            assert isinstance(transport, asyncio.Transport)
            transport.write(listener.too_many)
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what aiohttp could not parse or what went wrong beneath the handlers."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        api = self._listener.api
        error: ChronicledError
        if isinstance(exc, HttpProcessingError):
            what = "A line of the head is too long" if isinstance(exc, LineTooLong) else "The request is not valid HTTP"
            error = InvalidRequest(f"{what}: {' '.join(str(message or exc.message).split())[:300]}")
        elif status < 500:
            error = InvalidRequest("The request is not valid HTTP.")
        else:
            log.error("connection failed", exc_info=exc)
            error = ChronicledError("Something failed inside; the daemon's log says what.")
        response = api.refusal(error, api.new_id())
        api.metrics.requests[response.status] += 1
        response.force_close()
        return response


class Listener(web.Server):
    """The connections of one socket.

    Args:
        api: Who answers.
        identity: How callers are told here.
        connections_max: Most connections at one time; more get a 503 and are closed.
    """

    def __init__(self, api: Api, identity: Identity, connections_max: int) -> None:
        self.api = api
        self._identity = identity
        self._connections_max = connections_max
        body = encode_json(problem.document(Overloaded("Too many connections; retry in a moment."), "none"))
        self.too_many = (
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
            b"Content-Type: " + problem.MEDIA_TYPE.encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        ) + body
        super().__init__(self._answer, handler_cancellation=True)
        self._settings: dict[str, Any] = {
            "loop": asyncio.get_running_loop(),
            "access_log": None,
            "keepalive_timeout": api.limits.idle_seconds_max,
            "tcp_keepalive": False,
            "max_line_size": api.limits.header_bytes_max,
            "max_field_size": api.limits.header_bytes_max,
            "lingering_time": LINGERING_SECONDS,
            "auto_decompress": False,
        }

    @property
    def full(self) -> bool:
        """Whether there are more connections than allowed."""
        return len(self.connections) > self._connections_max

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.api.answer(request, self._identity)

    def __call__(self) -> web.RequestHandler:
        """Make the protocol of a new connection."""
        return Connection(self, **self._settings)
