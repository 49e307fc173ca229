"""What a hostile sandbox can do with in-band frames: nothing but end its own link."""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from chronicled.events.errors import ProtocolError
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.connection import Connection, encode
from chronicled.runtimes.action_server.seal import derive, seal_result
from chronicled.runtimes.action_server.spool import read_results
from chronicled.runtimes.worker.inband import ACTIONS_MAX, WINDOW_BYTES, WINDOW_BYTES_SUM, InbandTransfer
from chronicled.runtimes.worker.unix_link import UnixLink

TOKEN = "the token"
CHUNK = 1 << 16


class Sandbox:
    """A link that was welcomed in-band, with the other end in the hands of whoever writes the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        near, self.socket = socket.socketpair()
        connection: Connection[frames.ToWorker] = Connection(near, frames.ToWorker)
        self.link = UnixLink(connection, token=TOKEN)
        self.results = os.open(directory / "results", os.O_CREAT | os.O_RDWR)
        self.link.send(frames.Welcome(protocol=1, fence=1, transfer="inband"), self.results)

    def dispatch(self, action: str, content: bytes | None = None) -> None:
        """Send an action to it."""
        spool = os.open(self.directory / action, os.O_CREAT | os.O_RDWR)
        source: int | None = None
        if content is not None:
            (self.directory / "content").write_bytes(content)
            source = os.open(self.directory / "content", os.O_RDONLY)
        dispatch = frames.Dispatch(
            action=action,
            fence=1,
            lane=action,
            kind="run",
            version=1,
            payload=b"{}",
            timeout_seconds=None,
            output_bytes_max=1 << 30,
            content_bytes=None if content is None else len(content),
        )
        self.link.send(dispatch, spool, source)
        for descriptor in (spool, source):
            if descriptor is not None:
                os.close(descriptor)

    def say(self, *said: frames.Frame) -> None:
        """Send frames to the worker."""
        self.socket.sendall(b"".join(encode(frame) for frame in said))

    async def read(self) -> list[frames.ToWorker]:
        """Return what the worker takes from what was said and the end after it."""
        self.socket.shutdown(socket.SHUT_WR)
        taken: list[frames.ToWorker] = []
        while (frame := await self.link.receive()) is not None:
            taken.append(frame)
        return taken

    def spooled(self) -> list[frames.Result]:
        """Return what the result spool holds."""
        return list(read_results(self.results))

    def close(self) -> None:
        """Close both ends."""
        self.link.close()
        self.socket.close()
        os.close(self.results)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """A sandbox to which action `a` was sent."""
    sandbox = Sandbox(tmp_path)
    sandbox.dispatch("a")
    yield sandbox
    sandbox.close()


def result(name: str = "a", *, token: str = TOKEN, size: int = 0, **changes: object) -> frames.Result:
    """Return a result, sealed before the changes."""
    made = frames.Result(action=name, outcome=Outcome.OK, effects=Effects.COMPLETE, output_bytes=size)
    sealed = msgspec.structs.replace(made, seal=seal_result(derive(token, b"result"), made))
    return msgspec.structs.replace(sealed, **changes)


def data(offset: int, size: int, action: str = "a") -> frames.OutputData:
    """Return output."""
    return frames.OutputData(action=action, offset=offset, data=b"x" * size)


async def test_output_and_result_of_an_honest_server_are_taken(sandbox: Sandbox) -> None:
    """What keeps the rules gets into the files: output with notices, then the result, first in its spool."""
    sandbox.say(data(0, 5), data(5, 70_000), result(size=70_005))
    taken = await sandbox.read()
    assert [type(frame) for frame in taken] == [frames.Output, frames.Result]
    assert (sandbox.directory / "a").read_bytes() == b"x" * 70_005
    assert sandbox.spooled() == [result(size=70_005)]


HOSTILE: dict[str, list[frames.Frame]] = {
    "output of an action that was never sent": [data(0, 1, "b")],
    "output with a gap": [data(0, 5), data(6, 1)],
    "output that overlaps": [data(0, 5), data(4, 1)],
    "output from a negative offset": [data(-1, 1)],
    "output of nothing": [data(0, 0)],
    "output after the result": [data(0, 5), result(size=5), data(5, 1)],
    "a result of an action that was never sent": [result("b")],
    "a result twice": [result(), result()],
    "a result before its output": [result(size=5), data(0, 5)],
    "a result that claims other output": [data(0, 5), result(size=4)],
    "a result without a seal": [result(seal=b"")],
    "a result under another token": [result(token="guessed")],
    "a result that was changed": [result(outcome=Outcome.FAILED)],
    "another action's result": [result("b", action="a")],
    "a notice of a file": [frames.Output(action="a", size=1 << 40)],
    "a status of too many": [frames.Status(running=[str(number) for number in range(ACTIONS_MAX + 1)], done=[])],
    "a status of a long name": [frames.Status(running=[], done=["x" * 1000])],
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_breaks_a_rule_ends_the_link(sandbox: Sandbox, name: str) -> None:
    """Forged, repeated, reordered and oversized frames are refused, and leave no trace in spool or file."""
    sandbox.say(*HOSTILE[name])
    with pytest.raises(ProtocolError):
        await sandbox.read()
    assert (sandbox.directory / "a").stat().st_size <= WINDOW_BYTES
    assert len(sandbox.spooled()) <= 1
    assert all(frame == result(size=frame.output_bytes) for frame in sandbox.spooled())


def same(_one: bytes, _other: bytes) -> bool:
    """Find everything equal."""
    return True


async def test_without_its_seal_checked_a_forged_result_would_be_taken(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: what the checks above refuse for its seal is refused for nothing else."""
    monkeypatch.setattr("hmac.compare_digest", same)
    forged = result(token="guessed")
    sandbox.say(forged)
    assert await sandbox.read() == [forged]


@pytest.mark.parametrize("actions", [["a"], [f"b{number}" for number in range(WINDOW_BYTES_SUM // WINDOW_BYTES + 1)]])
async def test_nothing_is_taken_beyond_the_credit_of_one_action_and_of_all(tmp_path: Path, actions: list[str]) -> None:
    """What comes at once, before there can be new credit, is taken up to the windows and ends the link there."""
    transfer = InbandTransfer(lambda _frame: None, TOKEN, os.open(tmp_path / "results", os.O_CREAT | os.O_RDWR))
    spool = os.open(tmp_path / "spool", os.O_CREAT | os.O_RDWR)
    for action in actions:
        transfer.send(frames.Resume(action=action, offset=0), spool, None)
    end = WINDOW_BYTES + (CHUNK if len(actions) == 1 else 0)
    said = deque(data(start, CHUNK, action) for action in actions for start in range(0, end, CHUNK))
    total = len(said)
    with pytest.raises(ProtocolError):
        await transfer.take(said.popleft(), lambda: said.popleft() if said else None)
    allowed = min(len(actions) * WINDOW_BYTES, WINDOW_BYTES_SUM) // CHUNK
    assert total - len(said) == allowed + 1
    transfer.close()
    os.close(spool)


async def test_content_is_given_as_far_as_there_is_any(sandbox: Sandbox) -> None:
    """Credit for content brings its bytes; credit beyond its size or window, or before its start, ends the link."""
    sandbox.dispatch("up", b"0123456789")
    sandbox.say(frames.ContentCredit(action="up", taken=0, limit=1000))
    sandbox.say(frames.ContentCredit(action="other", taken=0, limit=1000))
    sandbox.say(frames.Started(action="a"))
    assert await sandbox.link.receive() == frames.Started(action="a")
    answers: Connection[frames.ToServer] = Connection(sandbox.socket, frames.ToServer)
    received = [(await answers.receive())[0] for _ in range(4)]
    assert received[-1] == frames.ContentData(action="up", offset=0, data=b"0123456789")
    for taken, limit in ((-5, 0), (11, 11), (0, 1 << 40)):
        hostile = Sandbox(sandbox.directory)
        hostile.dispatch("up", b"0123456789")
        hostile.say(frames.ContentCredit(action="up", taken=taken, limit=limit))
        with pytest.raises(ProtocolError):
            await hostile.read()
        hostile.close()


async def test_a_full_disk_drops_output_and_keeps_the_rest_going(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the spool takes no more, output counts as dropped, the result says so, and other actions go on."""
    spool = os.stat(sandbox.directory / "a").st_ino
    write = os.pwrite

    def full(descriptor: int, view: memoryview, offset: int) -> int:
        if os.fstat(descriptor).st_ino == spool and offset >= 3:
            raise OSError(28, "No space left on device")
        return write(descriptor, view[:3] if os.fstat(descriptor).st_ino == spool else view, offset)

    monkeypatch.setattr(os, "pwrite", full)
    sandbox.dispatch("b")
    sandbox.say(data(0, 10), data(0, 4, "b"), data(10, 10), result(size=20), result("b", size=4))
    taken = {frame.action: frame for frame in await sandbox.read() if isinstance(frame, frames.Result)}
    assert (taken["a"].output_bytes, taken["a"].output_dropped_bytes) == (20, 17)
    assert taken["b"].output_dropped_bytes == 0
    assert (sandbox.directory / "b").read_bytes() == b"xxxx"


async def test_what_nobody_takes_up_is_asked_for_without_its_output(sandbox: Sandbox) -> None:
    """An action of a status that the session does not know is not followed: its output stays where it is."""
    sandbox.say(frames.Status(running=["a", "old"], done=["older"]))
    await sandbox.read()
    answers: Connection[frames.ToServer] = Connection(sandbox.socket, frames.ToServer)
    received = [(await answers.receive())[0] for _ in range(4)]
    assert received[2:] == [
        frames.Resume(action="old", offset=0, discard=True),
        frames.Resume(action="older", offset=0, discard=True),
    ]


def mutations(rng: random.Random) -> Callable[[bytes], bytes]:
    """Return a way to spoil bytes."""
    at, byte = rng.randrange(1 << 16), rng.randrange(256)
    return rng.choice(
        [
            lambda raw: raw[: at % len(raw)] + bytes([byte]) + raw[at % len(raw) + 1 :],
            lambda raw: raw[: at % len(raw)] + raw[at % len(raw) + 1 :],
            lambda raw: raw[: at % len(raw)] + bytes([byte]) * (byte % 9) + raw[at % len(raw) :],
            lambda raw: raw[at % len(raw) :] + raw[: at % len(raw)],
        ]
    )


async def test_spoiled_frames_never_get_a_forged_result_through(tmp_path: Path) -> None:
    """Thousands of spoiled streams: the link ends or goes on, and no result gets through but the true one."""
    rng = random.Random(7)
    for number in range(1500):
        directory = tmp_path / str(number)
        directory.mkdir()
        sandbox = Sandbox(directory)
        sandbox.dispatch("a")
        raw = b"".join(encode(frame) for frame in (frames.Started(action="a"), data(0, 40), result(size=40)))
        for _ in range(rng.randrange(1, 4)):
            raw = mutations(rng)(raw)
        sandbox.socket.sendall(raw)
        try:
            taken = await sandbox.read()
        except ProtocolError:
            taken = []
        kept = [frame for frame in taken if isinstance(frame, frames.Result)] + sandbox.spooled()
        assert all(frame == result(size=40) for frame in kept)
        assert (directory / "a").stat().st_size <= WINDOW_BYTES
        sandbox.close()


async def test_content_that_follows_is_waited_for(sandbox: Sandbox) -> None:
    """A server that asks for content which the worker has still to fetch is answered when it is there, not before."""
    spool = os.open(sandbox.directory / "up", os.O_CREAT | os.O_RDWR)
    sandbox.link.send(frames.Resume(action="up", offset=0, content_follows=True), spool)
    sandbox.say(frames.ContentCredit(action="up", taken=4, limit=1000), frames.Started(action="up"))
    assert await sandbox.link.receive() == frames.Started(action="up")
    (sandbox.directory / "content").write_bytes(b"0123456789")
    content = os.open(sandbox.directory / "content", os.O_RDONLY)
    sandbox.link.send(frames.Resume(action="up", offset=0), spool, content)
    os.close(spool)
    os.close(content)
    answers: Connection[frames.ToServer] = Connection(sandbox.socket, frames.ToServer)
    received = [(await answers.receive())[0] for _ in range(4)]
    assert received[2:] == [
        frames.Resume(action="up", offset=0, content_follows=True),
        frames.ContentData(action="up", offset=4, data=b"456789"),
    ]
