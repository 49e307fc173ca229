"""One request as a handler sees it: who calls, path, query, headers and body, each checked when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, TypeVar, get_origin

import msgspec
from aiohttp import web

from chronicled.daemon.http.identity import Caller
from chronicled.daemon.http.percent import decode_percent
from chronicled.events.codec import encode_json
from chronicled.events.errors import InvalidRequest, PayloadTooLarge, RequestTimeout, UnsupportedMedia

__all__ = ["Call", "json_response", "write"]

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
JSON: Final = "application/json"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Call:
    """One request.

    Args:
        request: The request as aiohttp parsed it.
        id: Names the request in logs and problems.
        caller: Who sends it.
        path: What the route's `{names}` stand for.
        query: The query string as it came.
        body_bytes_max: Largest body.
        body_seconds_max: Longest time for the body to arrive.
    """

    __slots__ = ("_body_bytes_max", "_body_seconds_max", "_query", "caller", "id", "path", "request")

    def __init__(
        self,
        request: web.BaseRequest,
        id: str,
        caller: Caller,
        path: Mapping[str, str],
        query: str,
        body_bytes_max: int,
        body_seconds_max: float,
    ) -> None:
        self.request = request
        self.id = id
        self.caller = caller
        self.path = path
        self._query = query
        self._body_bytes_max = body_bytes_max
        self._body_seconds_max = body_seconds_max

    @property
    def head_only(self) -> bool:
        """Whether the answer is to have no body: what streams one leaves it out, and waits for nothing."""
        return self.request.method == "HEAD"

    def header(self, name: str) -> str | None:
        """Return a header's value, or None.

        Raises:
            InvalidRequest: it came twice, or holds bytes that are not printable ASCII or UTF-8.
        """
        values = self.request.headers.getall(name, ())
        if not values:
            return None
        if len(values) > 1:
            raise InvalidRequest(f"{name} came {len(values)} times; once is enough.", header=name)
        value = values[0].strip()
        if not value.isprintable():
            raise InvalidRequest(f"{name} holds characters that cannot be printed.", header=name)
        return value

    def query(self, shape: type[S]) -> S:
        """Return the query as a struct; list fields take commas and repetition.

        Raises:
            InvalidRequest: a parameter is unknown, repeated, badly encoded or does not fit; names it.
        """
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(shape)}
        values: dict[str, Any] = {}
        for pair in self._query.split("&"):
            if not pair:
                continue
            name, _, text = (decode_percent(part.replace("+", " ")) for part in _cut(pair))
            if name not in fields:
                known = ", ".join(fields)
                raise InvalidRequest(
                    f"There is no query parameter {name[:100]!r} here; there is {known}.", parameter=name[:100]
                )
            if get_origin(fields[name]) is tuple:
                values.setdefault(name, []).extend(text.split(","))
            elif name in values:
                raise InvalidRequest(f"The query parameter {name} came twice.", parameter=name)
            else:
                values[name] = text
        try:
            return msgspec.convert(values, shape, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"The query does not fit: {error}.") from None

    async def body(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Return the JSON body as its type.

        Raises:
            InvalidRequest: it is not JSON (says at which byte), or does not fit (names the member).
            PayloadTooLarge, RequestTimeout, UnsupportedMedia: as `read`.
        """
        data = await self.read()
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if not data:
                raise InvalidRequest("The request needs a JSON body.") from None
            raise InvalidRequest(f"The body does not fit: {error}.") from None

    async def read(self) -> bytes:
        """Return the body.

        Raises:
            PayloadTooLarge: it has more bytes than allowed.
            RequestTimeout: it did not arrive in time.
            UnsupportedMedia: it says that it is something else than plain JSON.
        """
        request = self.request
        if not request.body_exists:
            return b""
        self._check_media()
        length = request.content_length
        self._invite(self._body_bytes_max)
        content = request.content
        if content.is_eof() and length is not None:
            return await content.read()
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds_max):
                while chunk := await content.readany():
                    body += chunk
                    if len(body) > self._body_bytes_max:
                        raise _too_large(self._body_bytes_max)
        except TimeoutError:
            raise self._too_slow() from None
        except web.RequestPayloadError as error:
            raise InvalidRequest(f"The body ended badly: {error}.") from None
        return bytes(body)

    async def chunks(self, bytes_max: int) -> AsyncGenerator[bytes]:
        """Yield a body of bytes as it comes, whatever its media type.

        Raises:
            PayloadTooLarge: it has more bytes than that.
            RequestTimeout: nothing of it came for too long.
            UnsupportedMedia: it is compressed for the way.
            InvalidRequest: it breaks off.
        """
        request = self.request
        self._check_coding()
        self._invite(bytes_max)
        size = 0
        try:
            while True:
                async with asyncio.timeout(self._body_seconds_max):
                    chunk = await request.content.readany()
                if not chunk:
                    return
                size += len(chunk)
                if size > bytes_max:
                    raise _too_large(bytes_max)
                yield chunk
        except TimeoutError:
            raise self._too_slow() from None
        except web.RequestPayloadError as error:
            raise InvalidRequest(f"The body ended badly: {error}.") from None

    def _invite(self, bytes_max: int) -> None:
        """Have the body sent, if its sender waits for that and has not announced too much."""
        request = self.request
        if request.content_length is not None and request.content_length > bytes_max:
            raise _too_large(bytes_max)
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(CONTINUE)

    def _check_media(self) -> None:
        kind = self.header("Content-Type")
        if kind is not None:
            media, _, parameters = kind.partition(";")
            charset = parameters.strip().lower().removeprefix("charset=").strip('"')
            if media.strip().lower() != JSON or charset not in {"", "utf-8"}:
                raise UnsupportedMedia(f"Send `Content-Type: {JSON}`, not {kind[:100]!r}.")
        self._check_coding()

    def _check_coding(self) -> None:
        coding = self.header("Content-Encoding")
        if coding is not None and coding.lower() != "identity":
            raise UnsupportedMedia(f"Send the body plain, not {coding[:100]!r}.")

    def _too_slow(self) -> RequestTimeout:
        return RequestTimeout(
            f"The body did not arrive within {self._body_seconds_max:g} s.", seconds_max=int(self._body_seconds_max)
        )


def _too_large(bytes_max: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body has more than the {bytes_max} bytes that are allowed.", bytes_max=bytes_max)


def _cut(pair: str) -> tuple[str, str, str]:
    name, equals, value = pair.partition("=")
    return name, equals, value


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return `body` (a struct or plain values) as a JSON answer."""
    return web.Response(status=status, body=encode_json(body), content_type=JSON, headers=headers)


async def write(response: web.StreamResponse, data: bytes, seconds: float) -> None:
    """Write to a reader who takes it in time.

    Raises:
        ConnectionResetError: he took nothing for so long, or is gone.
    """
    try:
        async with asyncio.timeout(seconds):
            await response.write(data)
    except TimeoutError:
        raise ConnectionResetError("the reader takes nothing") from None
