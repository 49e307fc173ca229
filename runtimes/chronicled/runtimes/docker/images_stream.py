"""The engine's long answers about images: a stream of JSON messages, which ends with success or an error."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

import aiohttp
import msgspec
from aiodocker import Docker, DockerError

from chronicled.events.errors import ImageUnreachable

__all__ = ["Connect", "EngineSaid", "messages"]

Connect = Callable[[], Awaitable[Docker]]
"""Returns the engine's client; whoever made it closes it."""

MESSAGE_BYTES_MAX: Final = 1 << 20
CONNECT_SECONDS: Final = 10.0


class EngineSaid(Exception):
    """Raised for an error that the engine itself told.

    Args:
        status: HTTP status; 0 when it was told in the midst of the stream.
        words: What it said.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status
        self.words = words


async def messages(
    connect: Connect,
    path: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    quiet_seconds: float,
    body: AsyncIterable[bytes] | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Post to the engine and yield the messages of its answer.

    Raises:
        EngineSaid: it refused, or failed on the way.
        ImageUnreachable: it does not answer, broke off, or was quiet for too long.

    Cancellation: the connection is closed, upon which the engine gives up what it was doing.
    """
    timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=quiet_seconds)
    try:
        docker = await connect()
        if docker.api_version == "auto":
            # The client finds out the API's version with its first call.
            await docker.version()
        url = f"{docker.docker_host}/{docker.api_version}/{path}"
        async with docker.session.post(url, params=parameters, headers=headers, data=body, timeout=timeout) as response:
            if response.status >= 400:
                raise EngineSaid(response.status, _said(await response.content.read(MESSAGE_BYTES_MAX)))
            async with aclosing(_lines(response.content)) as lines:
                async for line in lines:
                    message = msgspec.json.decode(line, type=dict[str, Any])
                    if message.get("error") or message.get("errorDetail"):
                        raise EngineSaid(0, _said(line))
                    yield message
    except DockerError as error:
        raise ImageUnreachable(f"The engine does not answer: {error.message}") from None
    except TimeoutError:
        raise ImageUnreachable(f"The engine told nothing for {quiet_seconds:g} s; it was given up.") from None
    except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
        raise ImageUnreachable(
            f"The engine's answer broke off ({type(error).__name__}); is the engine there?"
        ) from None


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    rest = bytearray()
    while chunk := await content.readany():
        rest += chunk
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > MESSAGE_BYTES_MAX:
            raise ImageUnreachable(f"The engine's answer holds a message of more than {MESSAGE_BYTES_MAX} bytes.")
    if rest.strip():
        yield bytes(rest)


def _said(data: bytes) -> str:
    try:
        message = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return data.decode(errors="replace")[:2000]
    detail: Any = message.get("errorDetail")
    words = cast("dict[str, Any]", detail).get("message") if isinstance(detail, dict) else None
    return str(words or message.get("error") or message.get("message") or message)[:2000]
