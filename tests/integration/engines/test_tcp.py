"""An engine of which nothing can be shared with this host: DOCKER_HOST over TCP, frames over its API alone."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.integration.daemon.process import DaemonProcess
from tests.integration.docker.host import docker
from tests.integration.engines.served import Served, closed, play_all
from tests.stream_server import stream_server

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("carrier")]

BYTES = 20 << 20
NOTHING_SHARED = ("docker.transport=stdio", "docker.carrier=volume", "docker.workspace=tmpfs")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.fixture
async def address(engine: Engine) -> AsyncIterator[str]:
    """The engine's API at a TCP port of this machine."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_unix_connection(engine.host.removeprefix("unix://"))
        try:
            await asyncio.gather(_copy(reader, requests), _copy(answers, writer))
        finally:
            # What the engine has to say to who has gone is heard by nobody.
            requests.transport.abort()
            with contextlib.suppress(OSError):
                await requests.wait_closed()

    async with stream_server(serve) as port:
        yield f"tcp://127.0.0.1:{port}"


@pytest.fixture
async def served(address: str, tmp_path: Path) -> AsyncIterator[Served]:
    """A daemon that knows the engine from DOCKER_HOST."""
    (tmp_path / "d").mkdir()
    daemon = DaemonProcess(tmp_path / "d", *NOTHING_SHARED, environment={"DOCKER_HOST": address})
    yield Served(await daemon.start(), address)
    await daemon.aclose()


async def test_the_shell_table_holds(served: Served) -> None:
    """Commands end over the engine's API as they do anywhere: every fifth case of the table."""
    session = await served.session(MUSL, environment={"FROM_SESSION": "yes"})
    assert await play_all(session, every=5) >= 25


async def test_output_is_exact_across_the_death_of_the_daemon(served: Served) -> None:
    """What runs is found again after a kill -9, in the same container, and 20 MB of output come byte for byte."""
    session = await served.session(MUSL)
    assert (await session.run("echo kept >file; v=kept"))["outcome"] == "ok"
    container = docker("ps", "--quiet", "--filter", f"label={served.label}")
    begun = await session.begin(f"sleep 1; yes 0123456789abcde | head -c {BYTES}")
    await served.restart()
    found = await session.ended(begun, 60.0)
    assert (found["outcome"], found["output_bytes"], found["output_dropped_bytes"]) == ("ok", BYTES, 0)
    output = await session.output(begun)
    wanted = b"0123456789abcde\n" * (BYTES // 16)
    assert hashlib.sha256(output).digest() == hashlib.sha256(wanted).digest()
    assert (await session.run("cat file; echo $v"))["output"] == "kept\nkept\n"
    assert docker("ps", "--quiet", "--filter", f"label={served.label}") == container
    mounts = docker("inspect", "--format", "{{range .Mounts}}{{.Type}} {{.Destination}};{{end}}", container)
    assert mounts == "volume /.chronicled;"
    await closed(served, session)
    assert docker("ps", "--all", "--quiet", "--filter", f"label={served.label}") == ""
