from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.awake import within
from tests.engine.fixture import MUSL, Engine
from tests.integration.docker.host import running, runtime_of, serving
from tests.stream_server import stream_server

from chronicled.events.errors import ConfigurationError, SandboxStartFailed, SandboxUnreachable
from chronicled.events.sandbox import SandboxRequest, Volume
from chronicled.runtimes.docker import connections
from chronicled.runtimes.docker.connections import address
from chronicled.runtimes.docker.failure import EngineUnreachable
from chronicled.runtimes.testing import make_spec

SOCKET = address("", {}).removeprefix("unix://")


class Relay:
    """Passes TCP connections on to the engine's socket, until it is told to swallow or to cut them."""

    def __init__(self) -> None:
        self.port = 0
        self.swallows: Callable[[bytes], bool] = lambda _: False
        self.cuts: Callable[[bytes], bool] = lambda _: False

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Relay]:
        """Serve; every connection is closed at the end."""
        async with stream_server(self._serve) as self.port:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(SOCKET)
        try:
            await asyncio.wait(
                [asyncio.ensure_future(self._pass(reader, ours)), asyncio.ensure_future(self._pass(theirs, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            ours.close()
            with contextlib.suppress(OSError):
                await ours.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.cuts(data):
                return
            if self.swallows(data):
                await asyncio.sleep(60)
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()


async def test_an_engine_is_reached_over_tcp(engine: Engine, tmp_path: Path) -> None:
    """With `tcp://` a sandbox runs, ends and is removed as over the engine's own socket."""
    async with Relay().open() as relay:
        runtime = runtime_of(f"tcp://127.0.0.1:{relay.port}", image=MUSL)
        async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, spec):
            _, output = await worker.run("echo up")
            assert output == b"up\n"
            assert sandbox.handle["boot_id"] == ""
            assert await runtime.attach(sandbox.handle, spec) is not None
            await sandbox.kill()
            assert await runtime.attach(sandbox.handle, spec) is None


async def test_a_path_of_a_host_that_cannot_be_seen_is_not_mounted(engine: Engine, tmp_path: Path) -> None:
    """What a path is on another machine nobody here can judge, even where this one has the same: it is refused."""
    request = SandboxRequest(volumes=[Volume(source=str(tmp_path), target="/mnt")])
    async with Relay().open() as relay:
        runtime = runtime_of(f"tcp://127.0.0.1:{relay.port}", image=MUSL, volumes_allowed=(str(tmp_path),))
        async with running(runtime):
            with pytest.raises(SandboxStartFailed, match=rf"volumes: {tmp_path} is a path of the engine's host"):
                await runtime.start(make_spec(tmp_path, request=request))
            assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []


@pytest.mark.parametrize("request_line", [b"/containers/create", b"/start", b"/json"])
async def test_an_engine_that_is_lost_in_a_start_leaves_nothing(
    engine: Engine, tmp_path: Path, request_line: bytes
) -> None:
    """Cut off at any call of a start, the start fails by name, and what the engine had made is removed."""
    async with Relay().open() as relay:
        runtime = runtime_of(f"tcp://127.0.0.1:{relay.port}", image=MUSL)
        async with running(runtime):
            await runtime.engine.facts()
            cut: list[bytes] = []

            def cuts(data: bytes) -> bool:
                # Twice, since what only asks is asked once more.
                if len(cut) < 2 and b"/containers/" in data and request_line in data.split(b"\r\n", 1)[0]:
                    cut.append(data)
                    return True
                return False

            relay.cuts = cuts
            with pytest.raises(SandboxStartFailed):
                await runtime.start(make_spec(tmp_path))
            assert cut
            assert await runtime.engine.containers(f"chronicled.instance={runtime.instance}") == []


async def test_an_engine_that_does_not_answer_is_given_up_in_time(engine: Engine, tmp_path: Path) -> None:
    """A call that gets no answer ends after its bound, and says nothing about the sandbox."""
    async with Relay().open() as relay:
        runtime = runtime_of(f"tcp://127.0.0.1:{relay.port}", image=MUSL)
        async with running(runtime), serving(runtime, tmp_path) as (_, sandbox, spec):
            patience, runtime.engine.call_seconds = runtime.engine.call_seconds, 0.3
            relay.swallows = lambda data: b"GET " in data
            with pytest.raises(SandboxUnreachable):
                async with within(5.0):
                    await runtime.attach(sandbox.handle, spec)
            relay.swallows = lambda _: False
            runtime.engine.call_seconds = patience
            assert await runtime.attach(sandbox.handle, spec) is not None


async def test_an_answer_that_is_none_is_an_engine_that_does_not_answer(tmp_path: Path) -> None:
    """Whatever speaks at the engine's address and is no engine, it is told as unreachable, not as a failure of ours."""

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n[[[[")
        await writer.drain()

    async with stream_server(nonsense, tmp_path / "engine.sock"):
        runtime = runtime_of(f"unix://{tmp_path}/engine.sock")
        try:
            with pytest.raises(EngineUnreachable):
                await runtime.engine.facts()
            with pytest.raises(EngineUnreachable):
                await runtime.engine.inspect("0" * 64)
        finally:
            await runtime.engine.aclose()


@pytest.mark.parametrize(
    ("host", "environment", "expected"),
    [
        ("unix:///a/b.sock", {"DOCKER_HOST": "tcp://other:1"}, "unix:///a/b.sock"),
        ("", {"DOCKER_HOST": "tcp://other:2375"}, "tcp://other:2375"),
        ("", {"DOCKER_HOST": "unix:///run/podman/podman.sock"}, "unix:///run/podman/podman.sock"),
    ],
)
def test_the_address_is_the_settings_or_the_environments(host: str, environment: dict[str, str], expected: str) -> None:
    """The configuration's address wins over DOCKER_HOST, and that over the usual sockets."""
    assert address(host, environment) == expected


def test_a_rootless_engines_socket_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the usual sockets the user's own is taken."""
    monkeypatch.setattr(connections, "_SOCKETS", ("/none/docker.sock",))
    assert address("", {"XDG_RUNTIME_DIR": str(tmp_path)}) == "unix:///none/docker.sock"
    (tmp_path / "docker.sock").touch()
    assert address("", {"XDG_RUNTIME_DIR": str(tmp_path)}) == f"unix://{tmp_path}/docker.sock"


@pytest.mark.parametrize("host", ["ssh://host", "npipe:////./pipe/docker", "/var/run/docker.sock", "unix://relative"])
def test_an_address_that_is_not_spoken_is_refused(host: str) -> None:
    """A form of address that is not spoken here is a mistake in the configuration, and named."""
    with pytest.raises(ConfigurationError):
        address(host, {})


async def test_certificates_that_are_gone_end_nobody(tmp_path: Path) -> None:
    """While they are being changed the engine counts as unreachable: nothing that follows it ends over that."""
    runtime = runtime_of("tcp://127.0.0.1:9", tls_directory=str(tmp_path / "gone"))
    following = asyncio.create_task(runtime.run())
    done, _ = await asyncio.wait((following,), timeout=1.0)
    assert not done
    with pytest.raises(EngineUnreachable):
        await runtime.engine.facts()
    with pytest.raises(SandboxUnreachable):
        await runtime.sweep((), 1)
    following.cancel()
    await asyncio.wait((following,))
    assert following.cancelled()
