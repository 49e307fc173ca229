"""A real daemon as a child process, spoken to over its Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from tests.awake import awake

__all__ = [
    "Answer",
    "DaemonProcess",
    "ServerSentEvent",
    "files_below",
    "free_port",
    "server_sent_events",
    "until",
]

READY_SECONDS_MAX = 20.0
END_SECONDS_MAX = 20.0


async def until(condition: Callable[[], Awaitable[bool]], seconds_max: float = 20.0) -> None:
    """Return once the condition holds; fail when that takes too long."""
    end = awake() + seconds_max
    while not await condition():
        assert awake() < end, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def free_port() -> int:
    """Return a port of loopback that nobody has, and that the kernel gives to nobody who does not name it.

    One that it had given itself could be given again, to whoever connects or listens, before it is used here. Even to
    who connects to it while nobody listens yet: that one would be answered by himself.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(max(1024, first - 16_384), first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def files_below(root: Path, without: Collection[str] = ()) -> list[tuple[Path, bytes]]:
    """Return the files below a folder with what stands in them, while somebody works there.

    When something went while it was looked at, all is looked at anew: under another name it may still be there.

    Args:
        root: The folder.
        without: Names of folders that are left out.
    """

    def fail(error: OSError) -> None:
        raise error

    end = time.monotonic() + END_SECONDS_MAX
    while True:
        found: list[tuple[Path, bytes]] = []
        try:
            for folder, inner, names in os.walk(root, onerror=fail):
                inner[:] = [name for name in inner if name not in without]
                paths = [Path(folder, name) for name in names]
                found += [(path, path.read_bytes()) for path in paths if stat.S_ISREG(path.lstat().st_mode)]
            return found
        except FileNotFoundError:
            assert time.monotonic() < end, "it did not come to rest in time"


def _versions(root: Path) -> dict[str, tuple[int, int]]:
    """Return of each file below a folder what differs once it was written to."""
    found: dict[str, tuple[int, int]] = {}
    for folder, _, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in names):
            status = os.lstat(path)
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data

    @property
    def media(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        import json

        return json.loads(self.data)

    def __repr__(self) -> str:
        return f"<{self.status} {self.media} {self.data[:2000]!r}>"


class DaemonProcess:
    """One data directory and one socket, and the process that serves them at the moment."""

    def __init__(
        self,
        directory: Path,
        *settings: str,
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "chronicled.daemon"),
    ) -> None:
        self.program = program
        self.directory = directory
        self.data = directory / "data"
        self.socket = directory / "s"
        self.log = directory / "log"
        self.settings = settings
        self.environment = dict(environment or {})
        self.ready_seconds = 0.0
        self.process: subprocess.Popen[bytes] | None = None
        self._client: aiohttp.ClientSession | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        assert self.process is not None
        return self.process.pid

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
        places = (f"data.directory={self.data}", f"http.socket={self.socket}")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *places, *self.settings],
                env=environment | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start(self) -> Self:
        """Start the process and wait until it is ready."""
        begin = awake()
        self.spawn()
        assert self.process is not None
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                if (await self.get("/readyz")).status == 200:
                    break
            if self.process.poll() is not None or awake() - begin > READY_SECONDS_MAX:
                raise AssertionError(f"the daemon did not get ready:\n{self.log_text()}")
            await asyncio.sleep(0.005)
        self.ready_seconds = awake() - begin
        return self

    async def copy_data(self, target: Path, without: Collection[str] = ()) -> None:
        """Copy the data directory, all but sockets and what has these names, as it was at one moment.

        What is written while it is copied would be there in part: then it is copied once more.
        """

        def left_out(folder: str, names: list[str]) -> set[str]:
            modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
            return {name for name, mode in modes.items() if name in without or stat.S_ISSOCK(mode)}

        def copied() -> bool:
            with contextlib.suppress(FileNotFoundError, shutil.Error):
                before = _versions(self.data)
                shutil.copytree(self.data, target, ignore=left_out)
                if _versions(self.data) == before:
                    return True
            shutil.rmtree(target, ignore_errors=True)
            return False

        async def at_rest() -> bool:
            return await asyncio.to_thread(copied)

        await until(at_rest)

    async def wait(self) -> int:
        """Return the exit code once the process has ended."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, END_SECONDS_MAX)

    async def stop(self) -> int:
        """End it in order and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        await self.wait()

    async def disconnect(self) -> None:
        """Close the client, for an event loop that ends before the daemon does."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def aclose(self) -> None:
        """Close sessions, so that no sandbox is left, and end the process."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                for session in (await self.get("/v1/sessions?limit=1000")).json["sessions"]:
                    await self.call("DELETE", f"/v1/sessions/{session['session']}")
                await until(self._nothing_left, END_SECONDS_MAX)
            await self.stop()
        await self.disconnect()

    async def _nothing_left(self) -> bool:
        return await self.metric("sessions_unfinished") == 0

    @property
    def client(self) -> aiohttp.ClientSession:
        """A client whose connections go to the socket."""
        if self._client is None:
            connector = aiohttp.UnixConnector(str(self.socket), limit=0)
            self._client = aiohttp.ClientSession("http://daemon", connector=connector)
        return self._client

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        """Send one request; the path goes out as it is."""
        from yarl import URL

        url = URL("http://daemon" + path, encoded=True)
        async with self.client.request(method, url, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        """POST a JSON body."""
        return await self.call("POST", path, json={} if body is None else body, **options)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own and return everything that comes back until it closes."""
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            writer.write(data)
            async with asyncio.timeout(END_SECONDS_MAX):
                return await reader.read(1 << 20)
        finally:
            writer.close()

    async def written(self) -> list[int]:
        """Return the positions of all events that clients have submitted."""
        return [event["position"] for event in await self.events("/v1/events", "source=client")]

    async def events(self, path: str = "/v1/events", query: str = "") -> list[dict[str, Any]]:
        """Return all events that the query asks for."""
        events: list[dict[str, Any]] = []
        after = 0
        while True:
            page = (await self.get(f"{path}?after={after}&limit=1000&{query}")).json
            events += page["events"]
            after = page["next"]
            if page["at_end"]:
                return events

    async def metric(self, name: str) -> float:
        """Return the value of `chronicled_NAME`."""
        text = (await self.get("/metrics")).data.decode()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"chronicled_{name} "))

    def log_text(self) -> str:
        """Return what the daemon said."""
        return self.log.read_text()[-8000:]


class ServerSentEvent:
    """One message of an event stream."""

    def __init__(self, lines: list[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            fields[name] = value
        self.id = fields.get("id", "")
        self.event = fields.get("event", "")
        self.data = fields.get("data", "")

    @property
    def position(self) -> int:
        """The position in its id."""
        return int(self.id.partition("@")[0])


async def server_sent_events(response: aiohttp.ClientResponse) -> AsyncIterator[ServerSentEvent]:
    """Yield the messages of an event stream that have an id."""
    lines: list[str] = []
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line:
            lines.append(line)
            continue
        if any(each.startswith("id: ") for each in lines):
            yield ServerSentEvent(lines)
        lines = []
