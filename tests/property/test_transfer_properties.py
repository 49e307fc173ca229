"""Outputs and contents in-band, over connections that break at any byte: each byte once, and each action once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chronicled.events.errors import ChronicledError, ProtocolError
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.backlog import SpillRoom
from chronicled.runtimes.action_server.channel import ConnectionLost
from chronicled.runtimes.action_server.connection import Connection
from chronicled.runtimes.action_server.content import ContentPipe
from chronicled.runtimes.action_server.executor import Context, Ended, ExecutorTable, Request
from chronicled.runtimes.action_server.output_stream import OutputStreams
from chronicled.runtimes.action_server.server import ActionServer
from chronicled.runtimes.worker.channel_link import ChannelLink

TOKEN = "token"
CONNECTION_SECONDS = 60.0
"""Against waiting for ever."""
STUCK_SECONDS = 5.0
"""After so long a broken server is taken for one that gets no further."""
PATTERN = bytes(range(251)) * 6000


def printed(action: str, size: int) -> bytes:
    """Return what the action prints: different bytes at each offset, and for each action."""
    start = len(action) + int(action, 36) % 251
    return PATTERN[start : start + size]


class Echo:
    """Prints what the payload says in pieces, then hands back what came as content."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()

    @property
    def kinds(self) -> Collection[str]:
        """Only this."""
        return ("say",)

    async def execute(self, request: Request, context: Context) -> Ended:
        """Print, read, and count that it was done."""
        pieces: list[int] = msgspec.json.decode(request.payload, type=list[int])
        context.begin()
        self.effects[request.action] += 1
        data = printed(request.action, sum(pieces))
        for piece in pieces:
            context.output.write(memoryview(data[:piece]))
            data = data[piece:]
            await context.output.drain()
            await asyncio.sleep(0)
        content = b"" if context.content is None else await asyncio.to_thread(_read_all, context.content)
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE, fields={"content": content})

    async def close(self) -> None:
        """Hold nothing."""


def _read_all(descriptor: int) -> bytes:
    parts: list[bytes] = []
    while part := os.read(descriptor, 50_000):
        parts.append(part)
    return b"".join(parts)


class Wire:
    """Two connected sockets with somebody between who cuts them after so many bytes."""

    def __init__(self, bytes_max: int | None) -> None:
        self.server, near = socket.socketpair()
        self.worker, far = socket.socketpair()
        self._left = bytes_max
        self._sides = (near, far)
        for side in self._sides:
            side.setblocking(False)
        self._tasks = [asyncio.create_task(self._copy(near, far)), asyncio.create_task(self._copy(far, near))]

    async def _copy(self, source: socket.socket, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(source, 4096):
                if self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                await loop.sock_sendall(target, data)
                if self._left is not None and self._left <= 0:
                    break
        for side in self._sides:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Cut it now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for side in self._sides:
            side.close()


class World:
    """One server for good, and a worker that connects again and again."""

    def __init__(self, directory: Path, actions: dict[str, tuple[list[int], bytes | None]]) -> None:
        self.directory = directory
        self.actions = actions
        self.echo = Echo()
        room = SpillRoom((str(directory),))
        table = ExecutorTable([self.echo])
        self.server = ActionServer(table, "/", lambda: None, OutputStreams(TOKEN, room))
        self.results: dict[str, frames.Result] = {}

    async def connect(self, bytes_max: int | None, *, settle: bool) -> None:
        """Live through one connection, until it is cut or everything has come."""
        wire = Wire(bytes_max)
        server: Connection[frames.ToServer] = Connection(wire.server, frames.ToServer)
        worker: Connection[frames.ToWorker] = Connection(wire.worker, frames.ToWorker)
        link = ChannelLink(worker, token=TOKEN)
        serving = asyncio.create_task(self._serve(server))
        try:
            await self._work(link, settle=settle)
        finally:
            link.close()
            await wire.close()
            await asyncio.wait((serving,))

    async def _serve(self, connection: Connection[frames.ToServer]) -> None:
        with contextlib.suppress(ChronicledError):
            welcome, _ = await connection.receive()
            assert isinstance(welcome, frames.Welcome)
            self.server.adopt(connection, welcome, None)
            await self.server.serve(connection)
        connection.close()

    async def _work(self, link: ChannelLink, *, settle: bool) -> None:
        results = os.open(self.directory / "results", os.O_CREAT | os.O_RDWR)
        link.send(frames.Welcome(protocol=1, fence=1, transfer="inband"), results)
        os.close(results)
        link.send(frames.Query())
        with contextlib.suppress(ConnectionLost):
            while len(self.results) < len(self.actions) and (frame := await link.receive()) is not None:
                if isinstance(frame, frames.Status):
                    self._take_up(link, frame)
                elif isinstance(frame, frames.Result):
                    # Whatever the result says is in the file is there by now.
                    assert (self.directory / frame.action).stat().st_size == frame.output_bytes
                    self.results.setdefault(frame.action, frame)
                    if settle:
                        link.send(frames.Settle(action=frame.action))

    def _take_up(self, link: ChannelLink, status: frames.Status) -> None:
        for action, (pieces, content) in self.actions.items():
            if action in self.results:
                continue
            spool = os.open(self.directory / action, os.O_CREAT | os.O_RDWR)
            source = None if content is None else os.open(self.directory / f"{action}.content", os.O_RDONLY)
            if action in status.running or action in status.done:
                link.send(frames.Resume(action=action, offset=0), spool, source)
            else:
                dispatch = frames.Dispatch(
                    action=action,
                    fence=1,
                    lane=action,
                    kind="say",
                    version=1,
                    payload=msgspec.json.encode(pieces),
                    timeout_seconds=None,
                    output_bytes_max=1 << 30,
                    content_bytes=None if content is None else len(content),
                )
                link.send(dispatch, spool, source)
            for descriptor in (spool, source):
                if descriptor is not None:
                    os.close(descriptor)


Actions = list[tuple[list[int], int | None]]
"""For each action what it prints, in pieces, and the size of its content."""


async def live(directory: Path, asked: Actions, cuts: list[int], *, settle: bool, seconds: float) -> None:
    """Run every action to its end over connections that are cut after so many bytes, the last one not at all."""
    actions: dict[str, tuple[list[int], bytes | None]] = {}
    for number, (pieces, size) in enumerate(asked):
        action = f"a{number}"
        content = None if size is None else PATTERN[number : number + size]
        if content is not None:
            (directory / f"{action}.content").write_bytes(content)
        actions[action] = (pieces, content)
    world = World(directory, actions)
    for cut in [*cuts, None]:
        await asyncio.wait_for(world.connect(cut, settle=settle), seconds)
    for action, (pieces, content) in actions.items():
        assert (directory / action).read_bytes() == printed(action, sum(pieces))
        assert world.results[action].fields["content"] == (content or b"")
    assert world.echo.effects == Counter(dict.fromkeys(actions, 1))
    await world.server.close()


def run(asked: Actions, cuts: list[int], *, settle: bool, seconds: float = CONNECTION_SECONDS) -> None:
    """Do so in a fresh folder."""
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(Path(directory), asked, cuts, settle=settle, seconds=seconds))


LARGE: Actions = [([200_000, 5, 300_000], 400_000), ([1, 70_000, 250_000], None), ([0], 3)]
PIECES = st.lists(st.one_of(st.sampled_from([0, 1, 70_000, 300_000]), st.integers(0, 300_000)), max_size=4)
CONTENT = st.one_of(st.none(), st.sampled_from([0, 300_000, 700_000]), st.integers(0, 700_000))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    asked=st.lists(st.tuples(PIECES, CONTENT), min_size=1, max_size=4),
    cuts=st.lists(st.one_of(st.integers(1, 3000), st.integers(60_000, 400_000)), max_size=6),
    settle=st.booleans(),
)
@example(asked=LARGE, cuts=[100_000, 150_000, 90_001, 300_000], settle=True)
@example(asked=LARGE, cuts=[70_000] * 6, settle=False)
def test_bytes_arrive_whole_and_once_over_connections_that_break_anywhere(
    asked: Actions, cuts: list[int], settle: bool
) -> None:
    """Wherever connections break, files and contents equal what was written, and no action runs twice."""
    run(asked, cuts, settle=settle)


def forget(_pipe: ContentPipe) -> None:
    """Do not tell the worker from where to go on."""


@pytest.mark.parametrize("broken", ["repeats", "skips", "forgets contents"])
def test_the_property_sees_a_server_that_resumes_wrongly(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Negative control: a server that repeats or leaves out bytes after a break does not get past the check."""
    resume = OutputStreams.resume

    def wrongly(streams: OutputStreams, action: str, offset: int, *, discard: bool = False) -> None:
        shift = {"repeats": -1, "skips": 1}.get(broken, 0)
        resume(streams, action, max(0, offset + shift) if offset else 0, discard=discard)

    monkeypatch.setattr(OutputStreams, "resume", wrongly)
    if broken == "forgets contents":
        monkeypatch.setattr(ContentPipe, "resume", forget)
    with pytest.raises((AssertionError, ProtocolError, TimeoutError, ExceptionGroup)):
        run(LARGE, [100_000, 150_000, 90_001, 300_000], settle=True, seconds=STUCK_SECONDS)
