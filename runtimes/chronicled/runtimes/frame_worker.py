"""A worker reduced to frames: for tests of runtimes and action servers, without a log, sessions or redaction."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from chronicled.events.errors import ChronicledError
from chronicled.runtimes.action_server import frames, spool
from chronicled.runtimes.action_server.connection import ConnectionLost
from chronicled.runtimes.connection import Listener, ServerConnection, listen
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.worker.channel_link import ChannelLink
from chronicled.runtimes.worker.handshake import choose_transfer
from chronicled.runtimes.worker.unix_link import UnixLink

__all__ = ["WAIT_SECONDS", "FrameWorker", "eventually", "make_spec"]

WAIT_SECONDS: Final = 20.0

SomeFrame = TypeVar("SomeFrame", bound=frames.Frame)


async def eventually(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Return the condition's first true value; fail when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")
        await asyncio.sleep(0.005)
    return value


def make_spec(directory: Path, **changes: Any) -> SandboxSpec:
    """Return what to start, with all its folders below the directory; the socket's folder exists already."""
    sandbox = str(changes.pop("sandbox", f"sandbox-{uuid.uuid4().hex[:8]}"))
    sockets = directory / "sockets" / sandbox
    sockets.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "tenant": "default",
        "session": "contract",
        "sandbox": sandbox,
        "generation": uuid.uuid4().hex,
        "token": uuid.uuid4().hex,
        "socket_directory": str(sockets),
        "working_directory": str(directory / "sandboxes" / sandbox / "home"),
    }
    return SandboxSpec(**{**values, **changes})


class FrameWorker:
    """A worker that only speaks frames: it listens, welcomes the generation's server, dispatches, and keeps what comes.

    Args:
        spec: The sandbox that it serves.
        directory: Where its spools go; a second worker on the same directory finds those of the first.
        transfer: The way of transfer that it chooses; None for the best that the server offers.
    """

    def __init__(self, spec: SandboxSpec, directory: Path, transfer: frames.Transfer | None = None) -> None:
        self.spec = spec
        self.seen: list[frames.Frame] = []
        self.results: dict[str, frames.Result] = {}
        self.lost: ChronicledError | None = None
        self.hello: frames.Hello | None = None
        self.fence = 0
        self.transfer: frames.Transfer | None = transfer
        self.connection: ServerConnection | None = None
        self.link: ChannelLink | None = None
        self._directory = directory
        self._listener: Listener | None = None
        self._reading: asyncio.Task[None] | None = None
        self._contents: dict[str, int] = {}
        self._resumed = True
        """Whether the server has been told how much of each output is here."""
        self._changed = asyncio.Event()

    @property
    def spool_path(self) -> Path:
        """The generation's result spool."""
        return self._directory / f"{self.spec.generation}.results"

    async def _dialled(self) -> ChannelLink:
        assert self._listener is not None
        self.connection = await self._listener.accept()
        return UnixLink(self.connection)

    def listen(self) -> None:
        """Listen at the sandbox's socket, in place of who did before."""
        self._listener = listen(self.spec.socket_directory, mode=0o666)

    async def connect(
        self, fence: int = 1, unclaimed_seconds_max: float = 900.0, link: ChannelLink | None = None
    ) -> frames.Hello:
        """Wait for the server, welcome it, and take its frames from now on; in-band, ask how far its actions are.

        Args:
            fence: The worker's.
            unclaimed_seconds_max: How long the server is to go without a worker.
            link: How to reach it; by default the next one that dials.
        """
        self._drop_link()
        async with asyncio.timeout(WAIT_SECONDS):
            self.link = link or await self._dialled()
            hello = await self.link.receive()
        assert isinstance(hello, frames.Hello)
        assert (hello.generation, hello.token) == (self.spec.generation, self.spec.token)
        self.hello, self.fence = hello, fence
        self.transfer = self.transfer or choose_transfer(hello)
        assert self.transfer is not None
        descriptor = os.open(self.spool_path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            welcome = frames.Welcome(
                protocol=frames.PROTOCOL,
                fence=fence,
                unclaimed_seconds_max=unclaimed_seconds_max,
                transfer=self.transfer,
            )
            self.link.send(welcome, descriptor)
        finally:
            os.close(descriptor)
        self.lost, self._resumed = None, self.transfer == "descriptors"
        self._reading = asyncio.create_task(self._read(self.link))
        if self.transfer == "inband":
            self.link.send(frames.Query())
        return self.hello

    async def dispatch(
        self,
        kind: str,
        payload: dict[str, Any] | bytes,
        *,
        action: str | None = None,
        lane: str = "main",
        fence: int | None = None,
        timeout_seconds: float | None = 30.0,
        quiet_seconds: float | None = None,
        output_bytes_max: int = 256 << 20,
        content: bytes | None = None,
        position: int = 0,
        version: int = 1,
    ) -> str:
        """Send an action, with its content; return its id."""
        assert self.link is not None
        name = action or str(uuid.uuid4())
        descriptor = os.open(self.output_path(name), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            self.link.send(
                frames.Dispatch(
                    action=name,
                    fence=self.fence if fence is None else fence,
                    lane=lane,
                    kind=kind,
                    version=version,
                    payload=payload if isinstance(payload, bytes) else msgspec.json.encode(payload),
                    timeout_seconds=timeout_seconds,
                    quiet_seconds=quiet_seconds,
                    output_bytes_max=output_bytes_max,
                    position=position,
                    content_bytes=None if content is None else len(content),
                ),
                descriptor,
                None if content is None else self._content(name, content),
            )
        finally:
            os.close(descriptor)
        return name

    async def result(self, action: str, seconds: float = WAIT_SECONDS) -> frames.Result:
        """Return the action's result once it has come."""
        await self.until(lambda: action in self.results, seconds)
        return self.results[action]

    async def run(self, command: str, **options: Any) -> tuple[frames.Result, bytes]:
        """Run a command, settle it, return its result and its output."""
        names = ("lane", "timeout_seconds", "quiet_seconds", "output_bytes_max")
        dispatch = {name: options.pop(name) for name in names if name in options}
        action = await self.dispatch("run", {"command": command, **options}, **dispatch)
        result = await self.result(action, seconds=60.0)
        await self.send(frames.Settle(action=action))
        return result, self.output(action)

    async def send(self, frame: frames.ToServer) -> None:
        """Send any other frame."""
        assert self.link is not None
        self.link.send(frame)

    async def frame(self, kind: type[SomeFrame], seconds: float = WAIT_SECONDS, **fields: Any) -> SomeFrame:
        """Return the first frame seen of this kind and with these fields, once it has come."""

        def found() -> SomeFrame | None:
            for frame in self.seen:
                if isinstance(frame, kind) and all(getattr(frame, name) == value for name, value in fields.items()):
                    return frame
            return None

        await self.until(lambda: found() is not None, seconds)
        frame = found()
        assert frame is not None
        return frame

    async def until(self, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait for something that frames bring about."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def output_path(self, action: str) -> Path:
        """Where the action's output is spooled."""
        return self._directory / f"{action}.out"

    def output(self, action: str) -> bytes:
        """Return what the action's spool holds now."""
        return self.output_path(action).read_bytes()

    def spooled(self) -> list[frames.Result]:
        """Return what the result spool holds now."""
        descriptor = os.open(self.spool_path, os.O_RDONLY)
        try:
            return list(spool.read_results(descriptor))
        finally:
            os.close(descriptor)

    async def stand_still(self) -> None:
        """Take nothing more from the connection, and keep it, as a stopped worker does."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))

    async def close(self) -> None:
        """Go away without a word, as a killed worker does."""
        await self.stand_still()
        self._drop_link()
        for descriptor in self._contents.values():
            os.close(descriptor)
        self._contents.clear()
        if self._listener is not None:
            self._listener.close()

    def _drop_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _content(self, action: str, content: bytes) -> int:
        path = self._directory / f"{action}.content"
        path.write_bytes(content)
        self._contents[action] = os.open(path, os.O_RDONLY)
        return self._contents[action]

    async def _read(self, link: ChannelLink) -> None:
        try:
            while (frame := await link.receive()) is not None:
                if isinstance(frame, frames.Status) and not self._resumed:
                    self._resume(link, frame)
                    continue
                self.seen.append(frame)
                if isinstance(frame, frames.Result):
                    self.results[frame.action] = frame
                self._changed.set()
            self.lost = ConnectionLost()
        except ChronicledError as error:
            link.close()
            self.lost = error
        self._changed.set()

    def _resume(self, link: ChannelLink, status: frames.Status) -> None:
        self._resumed = True
        for action in (*status.running, *status.done):
            descriptor = os.open(self.output_path(action), os.O_CREAT | os.O_RDWR, 0o600)
            link.send(frames.Resume(action=action, offset=0), descriptor, self._contents.get(action))
            os.close(descriptor)
