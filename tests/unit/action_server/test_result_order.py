"""The server alone, without sandbox or socket: what is in its spool when it speaks, and what it refuses to take on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import pytest

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames, known
from chronicled.runtimes.action_server import server as action_server
from chronicled.runtimes.action_server.backlog import SpillRoom
from chronicled.runtimes.action_server.channel import ConnectionLost
from chronicled.runtimes.action_server.executor import Context, Ended, ExecutorTable, Request
from chronicled.runtimes.action_server.output_stream import OutputStreams
from chronicled.runtimes.action_server.server import ActionServer, WorkerConnection
from chronicled.runtimes.action_server.spool import read_results


class Counting:
    """An executor that counts what it executes."""

    kinds: Collection[str] = ("run",)

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.given: list[bytes | int] = []

    async def execute(self, request: Request, context: Context) -> Ended:
        """Count, and take what is typed."""
        context.begin()
        context.listen(self.given.append)
        self.executed.append(request.action)
        return Ended(outcome=Outcome.OK, effects=Effects.COMPLETE)

    async def close(self) -> None:
        """Nothing is held."""


class Worker:
    """The worker's end of a connection: what it looks at whenever a frame comes is the spool."""

    unsent_bytes = 0

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spool = directory / "results"
        self.spool.touch()
        self.frames: asyncio.Queue[tuple[frames.ToServer, list[int]]] = asyncio.Queue()
        self.results: asyncio.Queue[tuple[frames.Result, list[str]]] = asyncio.Queue()
        """Each with the actions that were in the spool as it was sent."""
        self.closed = False

    async def receive(self) -> tuple[frames.ToServer, list[int]]:
        """Return the next frame for the server."""
        return await self.frames.get()

    def post(self, frame: frames.Frame) -> None:
        """Take a frame of the server's."""
        if isinstance(frame, frames.Result):
            descriptor = os.open(self.spool, os.O_RDONLY)
            spooled = [result.action for result in read_results(descriptor)]
            os.close(descriptor)
            self.results.put_nowait((frame, spooled))

    async def drain(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Note it."""
        self.closed = True

    async def dispatch(self, action: str, *following: frames.ToServer) -> tuple[frames.Result, list[str]]:
        """Send an action, and other frames right behind it; return what comes of it."""
        output = os.open(self.directory / f"{action}.out", os.O_WRONLY | os.O_CREAT)
        dispatch = frames.Dispatch(
            action=action,
            fence=1,
            lane="main",
            kind="run",
            version=1,
            payload=b"{}",
            timeout_seconds=None,
            output_bytes_max=100,
        )
        self.frames.put_nowait((dispatch, [output]))
        for frame in following:
            self.frames.put_nowait((frame, []))
        async with asyncio.timeout(60):
            return await self.results.get()


def adopted(directory: Path) -> tuple[ActionServer, Worker, Counting]:
    """Return a server that a worker has welcomed, and what executes for it."""
    executor = Counting()
    server = ActionServer(
        ExecutorTable([executor]), str(directory), lambda: None, OutputStreams("token", SpillRoom((str(directory),)))
    )
    worker = Worker(directory)
    spool = os.open(worker.spool, os.O_RDWR)
    server.adopt(cast("WorkerConnection", worker), frames.Welcome(protocol=1, fence=1), spool)
    return server, worker, executor


async def served(server: ActionServer, worker: Worker) -> asyncio.Task[Any]:
    """Return the task that serves the worker."""
    return asyncio.get_running_loop().create_task(server.serve(cast("WorkerConnection", worker)))


async def test_a_result_is_in_the_spool_before_anybody_is_told(tmp_path: Path) -> None:
    """When its frame leaves, the spool has it: whoever dies in the next moment leaves the truth behind."""
    server, worker, executor = adopted(tmp_path)
    serving = await served(server, worker)
    result, spooled = await worker.dispatch("a")
    assert (result.action, spooled) == ("a", ["a"])
    result, spooled = await worker.dispatch("b")
    assert (result.action, spooled, executor.executed) == ("b", ["a", "b"], ["a", "b"])
    serving.cancel()
    await server.close()


async def test_what_cannot_be_remembered_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose memory of what it has executed is full takes on nothing more, and says what to do."""
    server, worker, executor = adopted(tmp_path)
    serving = await served(server, worker)
    monkeypatch.setattr(known, "ENTRIES_MAX", 1)
    await worker.dispatch("a")
    worker.frames.put_nowait((frames.Settle(action="a"), []))
    result, _ = await worker.dispatch("b")
    assert (result.outcome, result.effects, result.reason) == (Outcome.ERROR, Effects.NONE, "overloaded")
    assert executor.executed == ["a"]
    serving.cancel()
    await server.close()


async def test_a_newer_worker_ends_the_older_unread(tmp_path: Path) -> None:
    """What an older worker has sent and nobody has read when a newer one is welcomed is never read."""
    server, older, executor = adopted(tmp_path)
    serving = await served(server, older)
    await older.dispatch("a")
    (tmp_path / "newer").mkdir()
    newer = Worker(tmp_path / "newer")
    server.adopt(cast("WorkerConnection", newer), frames.Welcome(protocol=1, fence=2), os.open(newer.spool, os.O_RDWR))
    assert older.closed
    async with asyncio.timeout(60):
        assert (await newer.results.get())[1] == ["a"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await older.dispatch("b")
    with pytest.raises(ConnectionLost):
        await serving
    assert executor.executed == ["a"]
    await server.close()


async def test_what_is_typed_before_its_turn_is_kept_for_it(tmp_path: Path) -> None:
    """Input and signals that come right behind a dispatch reach the action, in order."""
    server, worker, executor = adopted(tmp_path)
    serving = await served(server, worker)
    await worker.dispatch(
        "a",
        frames.Input(action="a", data=b"one"),
        frames.Interrupt(action="a", signal=2),
        frames.Input(action="a", data=b"two"),
    )
    assert executor.given == [b"one", 2, b"two"]
    serving.cancel()
    await server.close()


async def test_a_spool_is_emptied_once_all_of_it_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generation that runs for long does not fill the disk; what is not settled yet is never thrown away."""
    server, worker, _ = adopted(tmp_path)
    serving = await served(server, worker)
    monkeypatch.setattr(action_server, "SPOOL_BYTES_MAX", 1)
    assert (await worker.dispatch("a"))[1] == ["a"]
    assert (await worker.dispatch("b"))[1] == ["a", "b"]
    worker.frames.put_nowait((frames.Settle(action="a"), []))
    assert (await worker.dispatch("c"))[1] == ["a", "b", "c"]
    for action in "bc":
        worker.frames.put_nowait((frames.Settle(action=action), []))
    assert (await worker.dispatch("d"))[1] == ["d"]
    serving.cancel()
    await server.close()
