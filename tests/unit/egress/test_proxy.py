"""The proxy as a sandbox meets it on its socket: in one process, with a server that stands for the internet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from tests.stream_server import stream_server

from chronicled.events.errors import SandboxStartFailed, StorageFull
from chronicled.events.kinds.lifecycle import NetworkDenied
from chronicled.runtimes.docker import egress_proxy
from chronicled.runtimes.docker.egress import Egress, open_egress
from chronicled.runtimes.docker.egress_dial import RESOLVERS_MAX, Resolve
from chronicled.runtimes.docker.egress_proxy import EGRESS_SOCKET
from chronicled.runtimes.docker.egress_rules import Rules
from chronicled.runtimes.docker.network_settings import AllowSettings

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def is_whole(data: bytes) -> bool:
    """Tell whether a request is there with its body, which may come some time after its head."""
    head, _, body = data.partition(b"\r\n\r\n")
    return head != data and (not head.startswith(b"POST") or b"body" in body)


class World:
    """One sandbox's proxy, what it reaches, and what it tells."""

    def __init__(self, egress: Egress, directory: Path) -> None:
        self.egress = egress
        self.directory = directory
        self.denied: list[NetworkDenied] = []
        self.received: list[bytes] = []
        self.addresses = ["127.0.0.1"]
        self.look_ups = 0
        self.port = 0
        self.full = False

    async def resolve(self, name: str) -> list[str]:
        """Answer as a name server whose answers change: public at first, inside from the second on."""
        self.look_ups += 1
        return self.addresses

    async def report(self, denied: NetworkDenied) -> None:
        """Take a denial."""
        if self.full:
            raise StorageFull("no room")
        self.denied.append(denied)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the first request once it is whole, and keep whatever else comes."""
        data = b""
        with contextlib.suppress(OSError):
            while not is_whole(data) and (chunk := await reader.read(65536)):
                data += chunk
            writer.write(ANSWER)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while chunk := await reader.read(65536):
                        data += chunk
        self.received.append(data)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the proxy."""
        return await asyncio.open_unix_connection(str(self.directory / EGRESS_SOCKET))

    async def ask(self, data: bytes, *, ends: bool = False) -> bytes:
        """Send bytes on a connection of their own and return everything that comes back."""
        reader, writer = await self.connect()
        answer = b""
        with contextlib.suppress(OSError):
            writer.write(data)
            if ends:
                writer.write_eof()
            async with asyncio.timeout(60):
                while chunk := await reader.read(65536):
                    answer += chunk
        writer.close()
        return answer


@asynccontextmanager
async def opened(directory: Path, **changes: object) -> AsyncGenerator[World, None]:
    """Give a proxy with these settings."""
    async with contextlib.AsyncExitStack() as stack:
        world: World | None = None

        async def resolve(name: str) -> list[str]:
            assert world is not None
            return await world.resolve(name)

        egress = await stack.enter_async_context(open_egress(resolve))
        world = World(egress, directory)
        world.port = await stack.enter_async_context(stream_server(world.serve))
        allow = [f"a.example:{world.port}", "b.example:1"]
        settings = msgspec.convert({"allow": allow, "private_networks": ["127.0.0.0/8"], **changes}, AllowSettings)
        rules = Rules(settings.allow, settings.private_networks)
        await egress.open("box", str(directory), "web", settings, rules, world.report)
        yield world


def get(world: World, *fields: str, host: str = "a.example", method: str = "GET") -> bytes:
    """Return a plain request."""
    head = (f"{method} http://{host}:{world.port}/ HTTP/1.1", *fields, "", "")
    return "\r\n".join(head).encode()


async def test_a_second_request_on_a_connection_goes_nowhere(tmp_path: Path) -> None:
    """What follows a request on its connection is not of that request: it never reaches the server."""
    second = b"GET http://b.example:1/ HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    async with opened(tmp_path) as world:
        for first in (
            get(world),
            get(world, "Content-Length: 4", method="POST") + b"body",
            get(world, "Transfer-Encoding: chunked", method="POST") + b"4\r\nbody\r\n0\r\n\r\n",
        ):
            assert (await world.ask(first + second)).endswith(b"ok")
        assert len(world.received) == 3
        assert not any(b"evil" in data for data in world.received)
        assert [b"body" in data for data in world.received] == [False, True, True]


async def test_a_client_that_has_said_all_still_hears(tmp_path: Path) -> None:
    """A client that closes its side after the request gets the answer; tunnels are closed one side at a time too."""
    async with opened(tmp_path) as world:
        assert (await world.ask(get(world), ends=True)).endswith(b"ok")
        tunnel = f"CONNECT a.example:{world.port} HTTP/1.1\r\n\r\n".encode() + b"hello\r\n\r\n"
        assert (await world.ask(tunnel, ends=True)).endswith(b"established\r\n\r\n" + ANSWER)


async def test_a_name_is_resolved_once_for_each_connection(tmp_path: Path) -> None:
    """The address that was judged is the one that is dialled, so an answer that changes later leads nowhere else."""
    async with opened(tmp_path, private_networks=[]) as world:
        world.addresses = ["10.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "fe80::1%lo"]
        assert b"not public" in await world.ask(get(world))
        assert world.look_ups == 1
        assert b"403" in await world.ask(f"CONNECT a.example:{world.port} HTTP/1.1\r\n\r\n".encode())
        assert world.look_ups == 2
        assert b"is not allowed" in await world.ask(get(world, host="c.example"))
        assert world.look_ups == 2
        assert world.received == []


async def test_any_bytes_leave_the_proxy_standing(tmp_path: Path) -> None:
    """Whatever is sent, however it is cut, and whenever it breaks off, the next request is answered."""
    numbers = random.Random(7)
    tunnel = "CONNECT a.example:%d HTTP/1.1\r\n\r\n"
    async with opened(tmp_path, connections_per_second=1000) as world:
        starts = [
            b"",
            get(world)[:-2],
            b"GET ",
            (tunnel % world.port).encode(),
            (tunnel % world.port).encode() + b"\x16\x03\x01",
        ]
        for _ in range(60):
            reader, writer = await world.connect()
            with contextlib.suppress(OSError):
                writer.write(numbers.choice(starts) + numbers.randbytes(numbers.randrange(400)))
                await writer.drain()
                if numbers.random() < 0.5:
                    async with asyncio.timeout(0.05):
                        await reader.read(100)
            writer.transport.abort() if numbers.random() < 0.5 else writer.close()
        assert (await world.ask(get(world))).endswith(b"ok")


async def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    """A head that never ends is cut off at its limit, and told."""
    async with opened(tmp_path) as world:
        assert b"400" in await world.ask(b"GET http://a.example/ HTTP/1.1\r\nX: " + b"x" * 100_000)
        await world.egress.close("box")
        assert [each.reason for each in world.denied] == ["bad_request"]


async def test_denials_that_cannot_be_told_stop_nothing(tmp_path: Path) -> None:
    """A log without room costs events and no network; what is left at the end is told then."""
    async with opened(tmp_path) as world:
        world.full = True
        await world.ask(get(world, host="c.example"))
        await asyncio.sleep(0.7)
        assert (await world.ask(get(world))).endswith(b"ok")
        world.full = False
        await world.ask(get(world, host="d.example"))
        await world.egress.close("box")
        assert [each.host for each in world.denied] == ["d.example"]
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection(str(tmp_path / "nothing"))
        with pytest.raises(ConnectionRefusedError):
            await world.connect()


async def test_a_directory_that_is_gone_fails_the_start(tmp_path: Path) -> None:
    """A proxy that cannot listen is a sandbox that cannot start, and says so; the others live on."""
    async with opened(tmp_path) as world:
        settings = AllowSettings(allow=("a.example",))
        with pytest.raises(SandboxStartFailed, match="cannot listen"):
            await world.egress.open("other", str(tmp_path / "gone"), "web", settings, Rules(()), world.report)
        assert world.egress.sandboxes == {"box"}
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        os.makedirs(deep)
        await world.egress.open("deep", str(deep), "web", settings, Rules(()), world.report)
        assert world.egress.sandboxes == {"box", "deep"}
        assert (await world.ask(get(world))).endswith(b"ok")


async def test_a_connection_on_which_nothing_goes_is_closed(tmp_path: Path) -> None:
    """A tunnel over which nothing is said for too long ends by itself."""
    async with opened(tmp_path, idle_seconds=0.3) as world:
        reader, writer = await world.connect()
        writer.write(f"CONNECT a.example:{world.port} HTTP/1.1\r\n\r\n".encode())
        async with asyncio.timeout(60):
            assert (await reader.read()).endswith(b"established\r\n\r\n")
        writer.close()


async def test_a_silent_name_server_holds_up_one_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names of it a sandbox asks for, the others' are looked up; without shares they would not be."""
    for share, reached in ((egress_proxy.LOOK_UPS_MAX, True), (64, False)):
        monkeypatch.setattr(egress_proxy, "LOOK_UPS_MAX", share)
        (directory := tmp_path / str(share)).mkdir()
        other = directory / "other"
        other.mkdir()
        room = asyncio.Semaphore(RESOLVERS_MAX)
        # No look-up is given up meanwhile: who has no share would come to its turn then.
        async with opened(directory, allow=["*.silent.example", "a.example:*"], connect_seconds=600) as world:
            answering = world.resolve
            begun = asyncio.Semaphore(0)

            async def resolve(
                name: str,
                answering: Resolve = answering,
                room: asyncio.Semaphore = room,
                begun: asyncio.Semaphore = begun,
            ) -> list[str]:
                if "silent" in name:
                    begun.release()
                async with room:
                    return await (asyncio.sleep(600, ["127.0.0.1"]) if "silent" in name else answering(name))

            monkeypatch.setattr(world, "resolve", resolve)
            settings = AllowSettings(allow=("a.example:*",), private_networks=("127.0.0.0/8",))
            rules = Rules(settings.allow, settings.private_networks)
            await world.egress.open("other", str(other), "web", settings, rules, world.report)
            asking = [await world.connect() for _ in range(40)]
            for number, (_, writer) in enumerate(asking):
                writer.write(f"CONNECT {number}.silent.example:443 HTTP/1.1\r\n\r\n".encode())
            async with asyncio.timeout(60):
                for _ in range(min(share, len(asking))):
                    await begun.acquire()
            world.directory = other
            asking.append(await world.connect())
            reader, writer = asking[-1]
            writer.write(get(world))
            answer = b""
            with contextlib.suppress(TimeoutError):
                # What is not reached is not waited for; what is may take its time on a busy machine.
                async with asyncio.timeout(60.0 if reached else 2.0):
                    answer = await reader.read()
            assert answer.endswith(b"ok") == reached
            for _, writer in asking:
                writer.close()
