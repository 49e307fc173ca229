"""Images without an engine, or with one that goes away in the midst of an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiodocker import Docker
from tests.stream_server import stream_server

from chronicled.events.clock import SystemClock
from chronicled.events.errors import ImageError, ImageUnreachable
from chronicled.runtimes.docker.images import Images, open_images
from chronicled.runtimes.docker.images_settings import ImageSettings

JSON = b"Content-Type: application/json\r\nConnection: close\r\n\r\n"
VERSION = b"HTTP/1.1 200 OK\r\n" + JSON + b'{"ApiVersion":"1.41","Arch":"amd64"}'
ABSENT = b"HTTP/1.1 404 Not Found\r\n" + JSON + b'{"message":"no"}'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@asynccontextmanager
async def opened(
    path: Path, answer: bytes = b"", hold: bool = False, quiet_seconds: float = 60.0
) -> AsyncGenerator[Images, None]:
    """Give the images of an engine at that socket, which answers a pull with these bytes and then breaks off."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"images/create" in head:
            writer.write(answer)
            await writer.drain()
            if hold:
                await reader.read()
        else:
            writer.write(VERSION if b"/version" in head else ABSENT)

    async with contextlib.AsyncExitStack() as stack:
        if answer:
            await stack.enter_async_context(stream_server(serve, path))
        docker = await stack.enter_async_context(Docker(f"unix://{path}"))

        async def connect() -> Docker:
            return docker

        settings = ImageSettings(pull_attempts=1, quiet_seconds=quiet_seconds)
        yield await stack.enter_async_context(open_images(connect, settings, SystemClock()))


async def test_an_engine_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Whatever is asked, the answer is that the engine does not answer, and not that there is no such image."""
    async with opened(tmp_path / "nobody") as images:
        for pull in ("missing", "always", "never"):
            with pytest.raises(ImageUnreachable, match="engine does not answer"):
                await images.resolve("debian:12", pull)
        with pytest.raises(ImageUnreachable, match="engine does not answer"):
            await images.cache.images("default")
        with pytest.raises(ImageUnreachable, match="engine does not answer"):
            await images.cache.prune()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (STREAM, "broke off"),
        (STREAM + b"5\r\n{\"a\":", "broke off"),
        (STREAM + b"7\r\n{broke}\r\n0\r\n\r\n", "broke off"),
        (b"no HTTP at all", "broke off"),
        (STREAM + b"0\r\n\r\n", "is it there"),
        (STREAM + b"2C\r\n{\"errorDetail\":{\"message\":\"unexpected EOF\"}}\r\n0\r\n\r\n", "unexpected EOF"),
    ],
)  # fmt: skip
async def test_an_answer_that_breaks_off_is_told(tmp_path: Path, answer: bytes, words: str) -> None:
    """A stream that ends early, is no JSON or no HTTP is an error in bounded time, and never an image."""
    async with opened(tmp_path / "engine", answer) as images:
        with pytest.raises(ImageError, match=words):
            await images.resolve("debian:12")


async def test_a_silent_engine_is_given_up(tmp_path: Path) -> None:
    """An engine that begins to answer and then says nothing is given up, by the setting's time."""
    async with opened(tmp_path / "engine", STREAM, hold=True, quiet_seconds=0.3) as images:
        with pytest.raises(ImageUnreachable, match=r"told nothing for 0\.3 s"):
            await images.resolve("debian:12")
