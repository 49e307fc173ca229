"""The stream's own promises, beside the big one that no event is missed or repeated (tests/stateful)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from chronicled.events.errors import InvalidCursor, StoreClosed, StoreFailed
from chronicled.events.store import Append, Filter, Page
from chronicled.storage.memory import MemoryMedium, MemoryStore
from chronicled.storage.ring import Commit, Ring
from chronicled.storage.sse import SharedMessages
from chronicled.storage.stream import LogStream
from chronicled.storage.testing_drafts import DraftMaker


@pytest.fixture
async def stream() -> AsyncIterator[LogStream]:
    """Yield a stream over an empty store."""
    async with await MemoryStore.open() as store:
        stream = LogStream(store)
        yield stream
        await stream.aclose()


@pytest.fixture
def make() -> DraftMaker:
    """Return a maker of drafts."""
    return DraftMaker()


async def test_followers_of_one_filter_share_a_page(stream: LogStream, make: DraftMaker) -> None:
    """A commit's page is one object for all who want the same, so that its bytes are made once."""
    await stream.append(make.create("s"))
    where = Filter(tenant="default", session="s")
    async with stream.subscribe(1, where) as one, stream.subscribe(1, where) as two, stream.subscribe(1) as three:
        pages: list[asyncio.Future[Page]] = [asyncio.ensure_future(anext(reader)) for reader in (one, two, three)]
        await asyncio.sleep(0)
        await stream.append(Append((make.action("s"), make.action("s"))))
        first, second, third = await asyncio.gather(*pages)
    assert first is second
    assert [event.position for event in third.events] == [2, 3]
    messages = SharedMessages(stream.incarnation)
    assert messages.render(first) is messages.render(second)


async def test_a_follower_of_one_session_is_not_woken_by_others(stream: LogStream, make: DraftMaker) -> None:
    """Its page comes with its own session's commit, and its cursor lies behind what it slept through."""
    for session in ("a", "b"):
        await stream.append(make.create(session))
    async with stream.subscribe(2, Filter(tenant="default", session="a")) as reader:
        waiting = asyncio.ensure_future(anext(reader))
        for _ in range(3000):
            await stream.append(Append((make.action("b"),)))
        assert not waiting.done()
        await stream.append(Append((make.action("a"),)))
        page = await waiting
    assert [event.position for event in page.events] == [page.next] == [stream.head]


async def test_an_idle_filter_gets_its_cursor_advanced(stream: LogStream, make: DraftMaker) -> None:
    """Who wants what never comes gets an empty page now and then, and need not start from so far back again."""
    await stream.append(make.create("s"))
    async with stream.subscribe(1, Filter(kinds=frozenset({"never"}))) as reader:
        waiting = asyncio.ensure_future(anext(reader))
        for _ in range(30):
            await stream.append(Append(tuple(make.action("s") for _ in range(50))))
        page = await waiting
    assert page.events == ()
    assert 1000 < page.next <= stream.head


async def test_a_cancelled_reader_loses_nothing(stream: LogStream, make: DraftMaker) -> None:
    """A wait that is cut off leaves the cursor; nobody is left waiting after the context."""
    await stream.append(make.create("s"))
    async with stream.subscribe(0) as reader:
        await anext(reader)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(reader), 0.01)
        await stream.append(Append((make.action("s"),)))
        assert [event.position for event in (await anext(reader)).events] == [2]


async def test_who_has_gone_away_is_not_kept(stream: LogStream, make: DraftMaker) -> None:
    """Readers that were cancelled while they waited leave nothing behind, also of sessions that never speak again."""
    await stream.append(make.create("s"))
    for where in (Filter(), Filter("default", "s"), Filter("default", "silent")):
        for _ in range(3):
            async with stream.subscribe(1, where) as reader:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(reader), 0.01)
    kept: tuple[object, object] = (stream._waiting, stream._waiting_by_session)  # pyright: ignore[reportPrivateUsage] - no other view
    assert kept == (set(), {})


async def test_a_closed_stream_ends_its_readers(stream: LogStream, make: DraftMaker) -> None:
    """Waiting and later readers get `StoreClosed`."""
    await stream.append(make.create("s"))
    async with stream.subscribe(1) as general, stream.subscribe(1, Filter(tenant="default", session="s")) as narrow:
        waiting = [asyncio.ensure_future(anext(reader)) for reader in (general, narrow)]
        await asyncio.sleep(0)
        await stream.aclose()
        for task in waiting:
            with pytest.raises(StoreClosed):
                await task
        with pytest.raises(StoreClosed):
            await anext(general)


async def test_a_failed_store_ends_everything(
    stream: LogStream, make: DraftMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed write nothing is acked, read or followed any more: all get `StoreFailed`."""
    await stream.append(make.create("s"))

    async def fail(self: MemoryMedium, batch: object) -> None:
        raise StoreFailed("The disk is broken.")

    monkeypatch.setattr(MemoryMedium, "write", fail)
    async with stream.subscribe(1) as reader:
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        answers = await asyncio.gather(
            *(stream.append(Append((make.action("s"),))) for _ in range(3)), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [StoreFailed] * 3
        with pytest.raises(StoreFailed, match="broken"):
            await waiting
    monkeypatch.undo()
    with pytest.raises(StoreFailed):
        await stream.append(Append((make.action("s"),)))
    with pytest.raises(StoreFailed):
        await stream.read(0, 1)


async def test_a_cursor_beyond_the_head_is_refused(stream: LogStream) -> None:
    """Following from where the log has not been would misread what comes."""
    for after in (1, -1):
        with pytest.raises(InvalidCursor):
            stream.subscribe(after)


async def test_the_ring_is_bounded(stream: LogStream, make: DraftMaker) -> None:
    """It holds the newest commits within its bytes, at least the newest one, and serves from inside a commit."""
    await stream.append(make.create("s"))
    ring = Ring(0, size_max=20_000)
    for _ in range(100):
        events = (await stream.append(Append(tuple(make.action("s", "x" * 1000) for _ in range(3))))).events
        ring.add(Commit(events))
        assert ring.size <= 20_000
    assert ring.first > 250
    assert [event.position for event in ring.page(ring.head - 1, Filter()).events] == [ring.head]
    big = (await stream.append(Append((make.action("s", "x" * 100_000),)))).events
    ring.add(Commit(big))
    assert (ring.first, ring.head) == (big[0].position, big[0].position)


async def test_messages_are_server_sent_events(stream: LogStream, make: DraftMaker) -> None:
    """One message per event with the cursor as its id; a last one moves the cursor where nothing wanted lies."""
    (created,) = (await stream.append(make.create("s"))).events
    pretty = msgspec.structs.replace(make.action("s"), payload=b'{"command":\n "a\\nb"}')
    (action,) = (await stream.append(Append((pretty,)))).events
    text = SharedMessages("inc").render(Page((created, action), 5, at_end=False)).decode()
    assert text.count("\n\n") == 3
    first, second, third = text.split("\n\n")[:3]
    head, kind, data = second.split("\n")
    assert first.startswith("id: 1@inc\nevent: session_created\ndata: {")
    assert (head, kind) == ("id: 2@inc", "event: run")
    assert msgspec.json.decode(data.removeprefix("data: "))["payload"] == {"command": "a\nb"}
    assert third == "id: 5@inc"
    assert SharedMessages("inc").render(Page((), 7, at_end=True)) == b"id: 7@inc\n\n"


async def test_renderings_are_bounded(stream: LogStream, make: DraftMaker) -> None:
    """Only the newest renderings are kept, and a page that was forgotten is rendered the same again."""
    messages = SharedMessages("inc")
    pages = [Page((), number, at_end=True) for number in range(300)]
    rendered = [messages.render(page) for page in pages]
    assert [messages.render(page) for page in pages] == rendered
    assert messages.render(pages[0]) is not rendered[0]
