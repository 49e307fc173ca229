"""The stream under concurrent appends, slow readers and reconnects: each wanted event comes once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronicled.events.envelope import Event
from chronicled.events.store import Append, Filter, Page
from chronicled.storage.memory import MemoryStore
from chronicled.storage.stream import LogStream, Subscription
from chronicled.storage.testing_drafts import DraftMaker

FILTERS = (
    Filter(),
    Filter(tenant="default"),
    Filter(tenant="default", session="a"),
    Filter(tenant="default", session="b", kinds=frozenset({"run"})),
    Filter(kinds=frozenset({"progress"})),
    Filter(tenant="other"),
)


@dataclass(frozen=True)
class Plan:
    """What one reader does."""

    where: Filter
    start: int
    """How many appends are done before it comes."""
    pauses: tuple[int, ...]
    """Steps of the event loop that it takes over each page, in turn."""
    reconnect_every: int
    """Pages after which it goes away and comes back with its cursor."""


plans = st.builds(
    Plan,
    where=st.sampled_from(FILTERS),
    start=st.integers(0, 30),
    pauses=st.lists(st.integers(0, 12), min_size=1, max_size=4).map(tuple),
    reconnect_every=st.integers(1, 8),
)


async def read(stream: LogStream, plan: Plan, until: asyncio.Future[int], found: list[Event]) -> int:
    """Follow as planned until the position that `until` will hold; return the last cursor."""
    cursor, pages = 0, 0
    while not (until.done() and cursor >= until.result()):
        async with stream.subscribe(cursor, plan.where) as subscription:
            for _ in range(plan.reconnect_every):
                waiting: asyncio.Future[Page] = asyncio.ensure_future(anext(subscription))
                either: tuple[asyncio.Future[Any], ...] = (waiting, until)
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                # The last page may be one that is not wanted: after the end, what does not come at once does not come.
                for _ in range(20):
                    if not waiting.done():
                        await asyncio.sleep(0)
                if not waiting.done():
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                    if until.done():
                        return cursor
                    break
                page = waiting.result()
                assert page.next > cursor
                assert all(cursor < event.position <= page.next for event in page.events)
                found += page.events
                cursor = page.next
                pages += 1
                for _ in range(plan.pauses[pages % len(plan.pauses)]):
                    await asyncio.sleep(0)
    return cursor


async def append_all(stream: LogStream, appends: list[tuple[str, str, int]], told: Callable[[], None]) -> None:
    """Append as planned: session, kind and how many steps of the loop pass first."""
    make = DraftMaker()
    for session in ("a", "b"):
        await stream.append(make.create(session))
    tasks: list[asyncio.Task[object]] = []
    for session, kind, steps in appends:
        draft = make.action(session) if kind == "run" else make.progress(session, make.ids.new())
        tasks.append(asyncio.create_task(stream.append(Append((draft,)))))
        for _ in range(steps):
            await asyncio.sleep(0)
        told()
    await asyncio.gather(*tasks)


async def scenario(appends: list[tuple[str, str, int]], readers: list[Plan], ring_bytes_max: int) -> None:
    """Run appends and readers side by side, then compare what each reader got with the log."""
    async with await MemoryStore.open() as store:
        stream = LogStream(store, ring_bytes_max=ring_bytes_max)
        until: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        found: list[list[Event]] = [[] for _ in readers]
        starts = [asyncio.Semaphore(0) for _ in readers]

        async def reader(index: int) -> None:
            for _ in range(min(readers[index].start, len(appends))):
                await starts[index].acquire()
            await read(stream, readers[index], until, found[index])

        def told() -> None:
            for start in starts:
                start.release()

        tasks = [asyncio.create_task(reader(index)) for index in range(len(readers))]
        await append_all(stream, appends, told)
        until.set_result(store.head)
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        everything: list[Event] = []
        while len(everything) < store.head:
            everything += (await store.read(len(everything), 1000)).events
        for plan, got in zip(readers, found, strict=True):
            wanted = [event.position for event in everything if plan.where.admits(event)]
            assert [event.position for event in got] == wanted, plan
        await stream.aclose()


appended = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["run", "progress"]), st.integers(0, 6)), min_size=1, max_size=40
)


@pytest.mark.timeout(300)
@settings(max_examples=150, deadline=None)
@given(appends=appended, readers=st.lists(plans, min_size=1, max_size=5), ring=st.sampled_from([1, 3000, 1 << 20]))
def test_no_gap_and_no_repeat(appends: list[tuple[str, str, int]], readers: list[Plan], ring: int) -> None:
    """Any interleaving, any filter, any slowness, a ring of one commit or of all: each wanted event once, in order."""
    asyncio.run(scenario(appends, readers, ring))


def busy() -> tuple[list[tuple[str, str, int]], list[Plan]]:
    """Return many appends and a few readers of every kind."""
    appends = [("ab"[number % 2], ("run", "progress")[number % 3 == 0], number % 4) for number in range(120)]
    readers = [Plan(where, start, (0, 9), 3) for where in FILTERS[:4] for start in (0, 20)]
    return appends, readers


def test_the_scenario_would_find_a_switch_with_an_await_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a subscription that lets others run between looking and waiting loses events or hangs."""

    async def gapped(self: Subscription) -> object:
        self._stream.check()  # pyright: ignore[reportPrivateUsage]
        seen = self._stream.head  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0)
        self._cursor = max(self._cursor, seen)  # pyright: ignore[reportPrivateUsage]
        return await real(self)

    real = Subscription.__anext__
    appends, readers = busy()
    asyncio.run(scenario(appends, readers, 1 << 20))
    monkeypatch.setattr(Subscription, "__anext__", gapped)
    with pytest.raises((AssertionError, TimeoutError)):
        asyncio.run(scenario(appends, readers, 1 << 20))
