"""Sandboxes under network policies, with servers on this machine's loopback that stand for the internet."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from tests.integration.docker.host import running, runtime_of, serving
from tests.stream_server import stream_server

from chronicled.events.kinds.lifecycle import NetworkDenied
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.docker.egress import Egress, open_egress
from chronicled.runtimes.docker.network import network_policies
from chronicled.runtimes.docker.network_settings import AllowSettings, NetworkSettings
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.news import News
from chronicled.runtimes.testing import FrameWorker

LOOPBACK = "127.0.0.0/8"


class Internet:
    """What names lead to, and what the server behind them was asked."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {"allowed.example": ["127.0.0.1"], "below.allowed.example": ["127.0.0.1"]}
        self.look_ups: list[str] = []
        self.received: list[bytes] = []
        self.port = 0
        self.body = b"hello from outside\n"

    async def resolve(self, name: str) -> list[str]:
        """Answer as a name server."""
        self.look_ups.append(name)
        if name not in self.names:
            raise OSError("no such name")
        return self.names[name]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer whatever comes."""
        data = await reader.read(65536)
        self.received.append(data)
        if data:
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(self.body)
            writer.write(head + self.body)
            await writer.drain()


class Place:
    """Sandboxes of one runtime whose policy `web` is given."""

    def __init__(self, runtime: DockerRuntime, internet: Internet, directory: Path) -> None:
        self.runtime = runtime
        self.internet = internet
        self.denied: list[NetworkDenied] = []
        self.egress: Egress | None = None
        self._directory = directory
        self._came = asyncio.Event()

    async def take(self, sandbox: str, kind: str, payload: msgspec.Struct) -> bool:
        """Keep what would be an event."""
        assert kind == "network_denied"
        assert isinstance(payload, NetworkDenied)
        assert sandbox
        self.denied.append(payload)
        self._came.set()
        return True

    @asynccontextmanager
    async def sandbox(self, network: str | None) -> AsyncGenerator[Commands, None]:
        """Give a sandbox under that policy."""
        directory = self._directory / uuid.uuid4().hex[:6]
        directory.mkdir()
        async with serving(self.runtime, directory, SandboxRequest(network=network)) as (worker, sandbox, spec):
            yield Commands(worker, str(sandbox.handle["container"]), spec.sandbox)

    async def until_denied(self, count: int, seconds: float = 15.0) -> None:
        """Return once so many tries were told of."""
        async with asyncio.timeout(seconds):
            while sum(each.count for each in self.denied) < count:
                self._came.clear()
                await self._came.wait()


class Commands:
    """A sandbox's shell."""

    def __init__(self, worker: FrameWorker, container: str, sandbox: str) -> None:
        self.worker = worker
        self.container = container
        self.sandbox = sandbox

    async def run(self, command: str) -> tuple[int | None, str]:
        """Return exit code and output of a command."""
        result, output = await self.worker.run(command)
        return result.fields.get("exit_code"), output.decode(errors="replace")


@asynccontextmanager
async def open_place(
    directory: Path, runtime: DockerRuntime | None = None, **allow: object
) -> AsyncGenerator[Place, None]:
    """Give a place whose policy `web` has these settings."""
    internet = Internet()
    news = News()
    async with AsyncExitStack() as stack:
        internet.port = await stack.enter_async_context(stream_server(internet.serve))
        entries = [
            f"allowed.example:{internet.port}",
            f"*.allowed.example:{internet.port}",
            "inside.example",
            "lost.example",
        ]
        values = {"allow": entries, "private_networks": [LOOPBACK], **allow}
        settings = NetworkSettings(policies={"web": msgspec.convert(values, AllowSettings)})
        egress = await stack.enter_async_context(open_egress(internet.resolve))
        runtime = runtime or runtime_of()
        runtime.networks = network_policies(settings, runtime.instance, runtime.engine.client, egress, news)
        place = Place(await stack.enter_async_context(running(runtime)), internet, directory)
        place.egress = egress
        stack.enter_context(news.listen(place.take))
        yield place
