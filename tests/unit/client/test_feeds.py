"""What the client promises of feeds: each event and each byte once, in order, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.client.server import (
    Received,
    Reply,
    ScriptedServer,
    Write,
    answer,
    event,
    hang_up,
    message,
    positions,
    problem,
    raw,
    stream,
)

from chronicled.client import Event, Session, connect
from chronicled.client.feed import messages
from chronicled.events.errors import CursorGone, NotReachable


def server(tmp_path: Path, *script: Reply) -> ScriptedServer:
    """Return a server that knows session `s` and then follows the script."""
    return ScriptedServer(tmp_path / "sock", answer(201, {"session": "s"}), *script)


async def followed(session: Session, count: int, after: int | str = 0) -> list[Event]:
    """Follow until so many events came."""
    found: list[Event] = []
    async with aclosing(session.events(after)) as events:
        async for each in events:
            found.append(each)
            if len(found) == count:
                break
    return found


async def test_a_feed_goes_on_where_it_was_lost(tmp_path: Path) -> None:
    """After each loss it is taken up behind the last event that was given, with its incarnation; none twice."""
    script = [
        stream(b"retry: 1000\n\n" + message(1) + message(2) + message(3)[:40]),
        hang_up,
        problem(503, "unavailable"),
        stream(message(3) + b": heartbeat\n\n" + b"id: 10@inc\n\n"),
        stream(message(11)),
    ]
    async with server(tmp_path, *script).serving() as told, connect(str(told.socket)) as client:
        found = await followed(await client.session("s"), 4)
    assert positions(found) == [1, 2, 3, 11]
    cursors = [request.target.partition("after=")[2] for request in told.received[1:]]
    assert cursors == ["0", "2@inc", "2@inc", "2@inc", "10@inc"]


async def test_a_log_that_is_another_one_is_told(tmp_path: Path) -> None:
    """A cursor of another incarnation ends the feed with the error, and is never read as if it were ours."""
    async with (
        server(tmp_path, stream(message(1)), problem(410, "cursor-gone")).serving() as told,
        connect(str(told.socket)) as client,
    ):
        session = await client.session("s")
        with pytest.raises(CursorGone):
            await followed(session, 5)


async def test_a_feed_gives_up_when_the_daemon_stays_away(tmp_path: Path) -> None:
    """Within the budget, counted from the loss."""
    async with (
        server(tmp_path, stream(message(1)), hang_up).serving() as told,
        connect(str(told.socket), retry_seconds=0.3) as client,
    ):
        session = await client.session("s")
        with pytest.raises(NotReachable):
            await followed(session, 5)
    assert 3 <= len(told.received) < 60


async def test_pages_are_read_to_the_end_of_the_log(tmp_path: Path) -> None:
    """Without following, page after page is read until there is no more, and a lost page is asked for again."""
    script = [
        answer(200, {"events": [event(1), event(2)], "next": 2, "at_end": False, "incarnation": "inc"}),
        hang_up,
        answer(200, {"events": [], "next": 50, "at_end": False, "incarnation": "inc"}),
        answer(200, {"events": [event(51)], "next": 60, "at_end": True, "incarnation": "inc"}),
    ]
    async with server(tmp_path, *script).serving() as told, connect(str(told.socket)) as client:
        session = await client.session("s")
        found = [each async for each in session.events(0, follow=False, kinds=["run", "read"])]
    assert positions(found) == [1, 2, 51]
    assert "after=50@inc" in told.received[4].target.replace("%40", "@")
    assert all("kind=run,read" in request.target.replace("%2C", ",") for request in told.received[1:])


DATA = bytes(range(256)) * 40


async def test_output_goes_on_at_the_byte_where_it_broke(tmp_path: Path) -> None:
    """A broken connection, a daemon that stops, and the end: every byte once."""
    running = answer(200, {"action": event(1, kind="run"), "status": "running"})
    ended = answer(
        200,
        {
            "action": event(1, kind="run"),
            "status": "ok",
            "observation": event(2, kind="run", category="observation", payload={"outcome": "ok"}),
        },
    )
    script = [
        raw(200, DATA[:3000], length=9000),  # breaks in the middle
        raw(200, DATA[3000:5000]),  # ends in order, since the daemon stops; the action runs on
        running,
        raw(200, DATA[5000:8000]),
        ended,
        raw(200, DATA[8000:], x_output_size=str(len(DATA))),
    ]
    async with server(tmp_path, *script).serving() as told, connect(str(told.socket)) as client:
        session = await client.session("s")
        found = b"".join([chunk async for chunk in session.output(event(1)["id"])])
    assert found == DATA
    offsets = [request.target.partition("offset=")[2] for request in told.received if "/output" in request.target]
    assert offsets == ["0", "3000", "5000", "8000"]


async def test_a_blob_goes_on_at_the_byte_where_it_broke(tmp_path: Path) -> None:
    """The rest is asked for as a range."""
    script = [raw(200, DATA[:100], length=len(DATA)), raw(206, DATA[100:])]
    async with server(tmp_path, *script).serving() as told, connect(str(told.socket)) as client:
        assert await (await client.session("s")).blob("ab" * 32) == DATA
    assert told.received[2].headers["range"] == "bytes=100-"


async def test_leaving_a_feed_closes_its_connection(tmp_path: Path) -> None:
    """A feed that is closed holds no connection open."""
    closed = asyncio.Event()

    async def reply(request: Received, writer: Write) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + message(1))
        await writer.drain()
        while not writer.transport.is_closing():
            writer.write(b": heartbeat\n\n")
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0.01)
        closed.set()

    async with server(tmp_path, reply).serving() as told, connect(str(told.socket)) as client:
        await followed(await client.session("s"), 1)
        async with asyncio.timeout(60):
            await closed.wait()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 200), max_size=8), st.data())
def test_messages_are_whole_however_the_bytes_are_cut(numbers: list[int], data: st.DataObject) -> None:
    """Cut anywhere, the same bytes are the same messages; what the end cut off is none."""
    whole = b"retry: 1000\n\n" + b"".join(
        message(number) if number % 3 else f": heartbeat\n\nid: {number}@inc\n\n".encode() for number in numbers
    )
    end = data.draw(st.integers(0, len(whole)))
    cuts = sorted(data.draw(st.lists(st.integers(0, end), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, end], strict=True)]

    async def parse(chunks: list[bytes]) -> list[tuple[str, bytes]]:
        class Pieces:
            async def readany(self) -> bytes:
                return chunks.pop(0) if chunks else b""

        return [each async for each in messages(Pieces())]

    complete = whole[:end].rpartition(b"\n\n")[0]
    wanted = [int(part.split(b"@")[0]) for part in complete.split(b"id: ")[1:] if b"@inc" in part]
    found = asyncio.run(parse([piece for piece in pieces if piece]))
    assert [int(id.split("@")[0]) for id, _ in found] == wanted
