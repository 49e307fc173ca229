from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chronicled.events.errors import ProtocolError, StaleFence
from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.connection import QUEUE_BYTES_MAX, Connection, ConnectionLost, Peer, encode
from chronicled.runtimes.connection import listen
from chronicled.runtimes.worker.handshake import Expected, shake_hands
from chronicled.runtimes.worker.link import Link
from chronicled.runtimes.worker.unix_link import UnixLink, listen_unix


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    yield one, other
    one.close()
    other.close()


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def test_frames_and_descriptors_arrive_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    """Frames with and without descriptors, large and small, come out as they went in, each with its own."""
    before = open_descriptors()
    sender: Connection[frames.ToWorker] = Connection(pair[0], frames.ToWorker)
    receiver: Connection[frames.ToServer] = Connection(pair[1], frames.ToServer, descriptors_max=1)
    sizes = [0, 1, 300_000, 10, 1_500_000, 3]

    async def send() -> None:
        for size in sizes:
            await sender.send(frames.Input(action="a", data=b"x" * size))
            read_end, write_end = os.pipe()
            os.write(write_end, b"%d" % size)
            os.close(write_end)
            await sender.send(frames.Welcome(protocol=1, fence=size), [read_end])
            os.close(read_end)

    sending = asyncio.create_task(send())
    for size in sizes:
        frame, none = await receiver.receive()
        assert isinstance(frame, frames.Input)
        assert (len(frame.data), none) == (size, [])
        welcome, descriptors = await receiver.receive()
        assert isinstance(welcome, frames.Welcome)
        assert os.read(descriptors[0], 10) == b"%d" % size
        assert not os.get_inheritable(descriptors[0])
        os.close(descriptors[0])
    await sending
    assert receiver.peer.pid == os.getpid()
    assert receiver.peer.uid == os.geteuid()
    sender.close()
    with pytest.raises(ConnectionLost):
        await receiver.receive()
    receiver.close()
    assert open_descriptors() == before - 2


RUBBISH = {
    "not msgpack": struct.pack("!I", 3) + b"\xc1\xc1\xc1",
    "not a map": struct.pack("!I", 1) + b"\x01",
    "no type": struct.pack("!I", 1) + b"\x80",
    "unknown type": struct.pack("!I", 12) + b"\x81\xa4type\xa5worse",
    "wrong field": struct.pack("!I", 21) + b"\x82\xa4type\xa6cancel\xa6action\x07",
    "too large": struct.pack("!I", FRAME_BYTES_MAX + 1),
    "descriptors that did not come": struct.pack("!I", 1 << 24 | 1) + b"\x80",
    "too many descriptors": struct.pack("!I", 9 << 24 | 1) + b"\x80",
    "deeply nested": struct.pack("!I", 20000) + b"\x91" * 20000,
    "of the other direction": encode(frames.Started(action="a")),
    "text": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", RUBBISH)
async def test_rubbish_ends_the_connection_after_what_was_good(
    pair: tuple[socket.socket, socket.socket], name: str
) -> None:
    """Frames before the rubbish are delivered, the rubbish is a protocol error, and the socket is closed."""
    receiver: Connection[frames.ToServer] = Connection(pair[1], frames.ToServer, descriptors_max=1)
    pair[0].sendall(encode(frames.Query()) + RUBBISH[name])
    assert (await receiver.receive())[0] == frames.Query()
    with pytest.raises(ProtocolError):
        await asyncio.wait_for(receiver.receive(), 60)
    assert receiver.closed
    with pytest.raises(ProtocolError):
        receiver.post(frames.Query())


async def test_unwanted_descriptors_are_refused_and_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    """A peer that has no descriptors to give cannot make the receiver keep any."""
    receiver: Connection[frames.ToWorker] = Connection(pair[1], frames.ToWorker)
    before = open_descriptors()
    socket.send_fds(pair[0], [encode(frames.Started(action="a"), 1)], [0])
    with pytest.raises(ProtocolError):
        await receiver.receive()
    assert open_descriptors() == before - 1


async def test_a_slow_reader_holds_the_sender_and_not_its_memory(pair: tuple[socket.socket, socket.socket]) -> None:
    """With nobody receiving, the sender waits at its bound, and goes on once somebody does."""
    sender: Connection[frames.ToWorker] = Connection(pair[0], frames.ToWorker)
    receiver: Connection[frames.ToServer] = Connection(pair[1], frames.ToServer)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for _ in range(200):
            await sender.send(frames.Input(action="a", data=b"x" * 100_000))
            sent += 1

    sending = asyncio.create_task(send())
    held = -1
    while held != sent:
        held = sent
        await asyncio.wait((sending,), timeout=0.1)
    assert not sending.done()
    assert 100_000 * held < 2 * QUEUE_BYTES_MAX + 1_500_000
    assert sender.unsent_bytes < QUEUE_BYTES_MAX + 200_000
    for _ in range(200):
        await receiver.receive()
    await asyncio.wait_for(sending, 60)
    sender.close()
    receiver.close()


async def test_a_lost_peer_wakes_sender_and_receiver(pair: tuple[socket.socket, socket.socket]) -> None:
    """Whoever waits for a peer that goes away learns it at once."""
    connection: Connection[frames.ToWorker] = Connection(pair[0], frames.ToWorker)
    for _ in range(60):
        connection.post(frames.Input(action="a", data=b"x" * 100_000))
    waiting: list[asyncio.Task[object]] = [
        asyncio.create_task(connection.drain()),
        asyncio.create_task(connection.receive()),
    ]
    await asyncio.sleep(0)
    pair[1].close()
    for task in waiting:
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(task, 60)


def test_a_frame_over_the_limit_is_not_sent() -> None:
    """A frame that the other side would refuse is refused here."""
    with pytest.raises(ProtocolError):
        encode(frames.Input(action="a", data=b"x" * FRAME_BYTES_MAX))


def hello(**changes: object) -> frames.Hello:
    """Return the Hello of generation `g` with token `t`, with changes."""
    values: dict[str, object] = {
        "protocol": 1,
        "protocol_min": 1,
        "build": "b",
        "boot_id": "b",
        "generation": "g",
        "token": "t",
        "fence": 0,
        "pid": 1,
        "start_ticks": 1,
        "kinds": [],
    }
    return frames.Hello(**{**values, **changes})  # type: ignore[arg-type]  # names and values of a table


def nobody(_peer: Peer) -> bool:
    """Accept no process."""
    return False


@pytest.mark.parametrize(
    ("first", "code", "accepts"),
    [
        (hello(token="other"), "refused", None),
        (hello(generation="other"), "refused", None),
        (hello(boot_id="other"), "refused", None),
        (hello(protocol=9, protocol_min=8), "protocol-mismatch", None),
        (hello(transfers=("pigeons",)), "protocol-mismatch", None),
        (hello(fence=2), "stale-fence", None),
        (hello(), "refused", nobody),
        (frames.Started(action="a"), "", None),
    ],
    ids=["token", "generation", "boot", "protocol", "transfer", "fence", "process", "no hello"],
)
async def test_a_stranger_is_refused_with_a_reason(
    tmp_path: Path, first: frames.Frame, code: str, accepts: Callable[[Peer], bool] | None
) -> None:
    """Only the generation's own server gets past the greeting, at a path longer than the kernel takes too."""
    directory = tmp_path / ("long" * 30)
    os.mkdir(directory)
    listener = listen(str(directory))
    dialling = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(directory, os.O_PATH)
    dialling.connect(f"/proc/self/fd/{descriptor}/worker.sock")
    os.close(descriptor)
    stranger: Connection[frames.ToServer] = Connection(dialling, frames.ToServer)
    accepted = await listener.accept()
    stranger.post(first)
    expected = Expected(
        generation="g", token="t", boot_id="b", fence=1, results=-1, unclaimed_seconds=1.0, seconds=60, accepts=accepts
    )
    link = UnixLink(accepted)
    with pytest.raises((ProtocolError, StaleFence)):
        await shake_hands(link, expected)
    if code:
        refusal, _ = await stranger.receive()
        assert isinstance(refusal, frames.Refusal)
        assert refusal.code == code
    link.close()
    stranger.close()
    listener.close()
    assert os.listdir(directory) == []


async def test_a_second_listener_takes_the_name(tmp_path: Path) -> None:
    """A new worker listens in place of the old one, whose closing leaves the new socket alone."""
    first = listen(str(tmp_path))
    second = listen(str(tmp_path))
    first.close()
    assert os.stat(f"{tmp_path}/worker.sock").st_mode & 0o777 == 0o600
    second.close()
    assert os.listdir(tmp_path) == []


async def test_the_settings_are_gone_before_the_server_is_welcomed(tmp_path: Path) -> None:
    """The file that told the server who it is no longer stands where commands could read it once they may run."""
    settings = tmp_path / "settings"
    settings.write_text("token=t")
    seen: list[bool] = []

    async def accept(link: Link) -> None:
        results = os.open(tmp_path / "results", os.O_CREAT | os.O_RDWR)
        expected = Expected(
            generation="g", token="t", boot_id="b", fence=1, results=results, unclaimed_seconds=1.0, seconds=60
        )
        with contextlib.suppress(ProtocolError):
            await shake_hands(link, expected)
        os.close(results)
        await link.receive()

    async with listen_unix(str(tmp_path), accept):
        for token in ("stolen", "t"):
            dialling = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            dialling.connect(str(tmp_path / "worker.sock"))
            server: Connection[frames.ToServer] = Connection(dialling, frames.ToServer, descriptors_max=1)
            server.post(hello(token=token))
            answer, descriptors = await server.receive()
            seen.append(settings.exists())
            assert isinstance(answer, frames.Welcome if token == "t" else frames.Refusal)
            for descriptor in descriptors:
                os.close(descriptor)
            server.close()
    assert seen == [True, False]


async def test_what_the_peer_said_before_it_went_is_heard(pair: tuple[socket.socket, socket.socket]) -> None:
    """A refusal is not lost because something was sent to a peer that had closed behind it."""
    pair[0].sendall(encode(frames.Refusal(code="no", message="")))
    receiver: Connection[frames.ToWorker] = Connection(pair[1], frames.ToWorker)
    pair[0].close()
    with pytest.raises(ConnectionLost):
        receiver.post(frames.Query())
    assert (await receiver.receive())[0] == frames.Refusal(code="no", message="")
    with pytest.raises(ConnectionLost):
        await receiver.receive()
