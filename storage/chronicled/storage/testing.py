"""The contract of an `EventStore` as a shipped test suite: subclass it and give it a store.

class TestMyStore(EventStoreContract):
    @pytest.fixture
    async def store(self):
        async with await MyStore.open() as store:
            yield store
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from chronicled.events.envelope import Event
from chronicled.events.errors import (
    ActionEnded,
    IdReused,
    InvalidCursor,
    InvalidRequest,
    Overloaded,
    SequenceMismatch,
    SessionClosed,
    SessionExists,
    SessionNotFound,
    StaleFence,
    StoreClosed,
)
from chronicled.events.limits import QUEUE_EVENTS_MAX
from chronicled.events.store import Append, EventStore, Filter
from chronicled.storage.testing_drafts import DraftMaker

__all__ = ["EventStoreContract"]

REQUEST = bytes(range(32))
OTHER_REQUEST = bytes(32)


class EventStoreContract:
    """What every event store keeps; the subclass has a fixture `store` with an empty one."""

    @pytest.fixture
    def store(self) -> EventStore:
        """Return an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def make(self) -> DraftMaker:
        """Return a maker of drafts."""
        return DraftMaker()

    async def test_positions_are_dense_and_sequences_are_dense_per_session(
        self, store: EventStore, make: DraftMaker
    ) -> None:
        """Whatever is appended at the same time, positions are 1, 2, 3 and each session's sequences 0, 1, 2."""
        for session in ("a", "b", "c"):
            await store.append(make.create(session))
        await asyncio.gather(
            *(store.append(Append((make.action("abc"[number % 3]),))) for number in range(200)),
        )
        events = (await store.read(0, 1000)).events
        assert [event.position for event in events] == list(range(1, 204))
        for session in ("a", "b", "c"):
            sequences = [event.sequence for event in events if event.session == session]
            assert sequences == list(range(len(sequences)))
        assert store.head == 203
        assert [event.time for event in events] == sorted(event.time for event in events)

    async def test_what_append_returns_is_what_is_read(self, store: EventStore, make: DraftMaker) -> None:
        """An event is the same, byte for byte, from the ack, the listener, a page and a look-up."""
        heard: list[Event] = []
        end = store.listen(heard.extend)
        created = (await store.append(make.create("s"))).events
        action = make.action("s", traceparent="00-1-2-01", lane="other", request=REQUEST)
        (event,) = (await store.append(Append((action,)))).events
        end()
        terminal = make.terminal("s", action.id)
        (ended,) = (await store.append(Append((terminal,)))).events
        assert heard == [*created, event]
        assert list((await store.read(0, 10)).events) == [*created, event, ended]
        assert await store.find("default", action.id) == event
        assert await store.request("default", action.id) == REQUEST
        assert await store.request("default", terminal.id) is None
        assert await store.terminal("default", action.id) == ended
        assert await store.last("default", "s") == ended
        assert bytes(event.payload) == action.payload
        assert (event.id, event.lane, event.traceparent) == (action.id, "other", "00-1-2-01")
        assert (ended.cause, ended.category) == (action.id, "observation")

    async def test_what_does_not_exist_is_none(self, store: EventStore, make: DraftMaker) -> None:
        """Look-ups of unknown and of foreign things find nothing."""
        await store.append(make.create("s"))
        action = make.action("s")
        await store.append(Append((action,)))
        for tenant, id in (("default", make.ids.new()), ("other", action.id)):
            assert await store.find(tenant, id) is None
            assert await store.request(tenant, id) is None
        assert await store.terminal("default", action.id) is None
        assert await store.last("default", "nobody") is None
        assert await store.last("other", "s") is None
        assert (await store.read(0, 10, Filter(tenant="other", session="s"))).events == ()

    async def test_a_retry_gets_the_earlier_answer(self, store: EventStore, make: DraftMaker) -> None:
        """The same ids with the same request write nothing again, whatever has happened since; also side by side."""
        await store.append(make.create("s"))
        request = Append((make.action("s", request=REQUEST, fresh=False),), expected_sequence=-1)
        answers = await asyncio.gather(*(store.append(request) for _ in range(5)))
        assert sorted(answer.repeated for answer in answers) == [False, True, True, True, True]
        await store.append(Append((make.closed("s"),)))
        late = await store.append(request)
        assert late.repeated
        assert all(answer.events == late.events for answer in answers)
        assert store.head == 3

    async def test_another_request_under_a_known_id_is_refused(self, store: EventStore, make: DraftMaker) -> None:
        """An id stands for one request: another digest, session, category or kind, or more than it is `IdReused`."""
        await store.append(make.create("s"))
        await store.append(make.create("t"))
        first, second = make.action("s", request=REQUEST, fresh=False), make.action("s", request=REQUEST, fresh=False)
        await store.append(Append((first, second)))
        for drafts in (
            (replace(first, request=OTHER_REQUEST), replace(second, request=OTHER_REQUEST)),
            (first, make.action("s", request=REQUEST)),
            (replace(first, kind="write"),),
            (replace(first, session="t"),),
            (replace(first, category="observation"),),
        ):
            with pytest.raises(IdReused):
                await store.append(Append(drafts))
        assert (await store.append(Append((first,)))).repeated
        assert store.head == 4

    async def test_an_id_that_is_not_as_fresh_as_said_is_found(self, store: EventStore, make: DraftMaker) -> None:
        """`fresh` only spares a look-up: a known id under it is recognised all the same, and its neighbours go on."""
        await store.append(make.create("s"))
        known = make.action("s", request=REQUEST)
        await store.append(Append((known,)))
        ended = make.action("s")
        await store.append(Append((ended, make.terminal("s", ended.id))))
        second_end = make.terminal("s", ended.id)
        # A new lane, so that more than rows of events is taken back.
        drafts = (known, second_end, replace(known, request=OTHER_REQUEST), make.action("s", lane="new"))
        answers = await asyncio.gather(*(store.append(Append((draft,))) for draft in drafts), return_exceptions=True)
        again, end, other, new = answers
        assert isinstance(end, ActionEnded)
        assert not isinstance(again, BaseException)
        assert again.repeated
        assert isinstance(other, IdReused)
        assert not isinstance(new, BaseException)
        assert new.events[0].position == 5

    async def test_an_id_twice_in_one_commit_is_found(self, store: EventStore, make: DraftMaker) -> None:
        """Two requests under one id side by side, both said to be fresh: one is written, the other is its retry."""
        await store.append(make.create("s"))
        same, reused = make.action("s", request=REQUEST), make.action("s", request=REQUEST)
        drafts = (make.action("s"), same, same, reused, replace(reused, request=OTHER_REQUEST), make.action("s"))
        answers = await asyncio.gather(*(store.append(Append((draft,))) for draft in drafts), return_exceptions=True)
        told = [answer.events[0].position for answer in answers if not isinstance(answer, BaseException)]
        assert told == [2, 3, 3, 4, 5]
        assert isinstance(answers[4], IdReused)
        assert store.head == 5

    async def test_ids_are_per_tenant(self, store: EventStore, make: DraftMaker) -> None:
        """Two tenants, also of one commit, may use one id and one session name without seeing each other."""
        other, third = DraftMaker("other"), DraftMaker("third")
        await asyncio.gather(*(store.append(maker.create("s")) for maker in (make, other, third)))
        assert [event.tenant for event in (await store.read(0, 10)).events] == ["default", "other", "third"]
        action = make.action("s", fresh=False)
        await store.append(Append((action,)))
        assert not (await store.append(Append((replace(action, tenant="other"),)))).repeated
        page = await store.read(0, 10, Filter(tenant="other"))
        assert [event.position for event in page.events] == [2, 5]
        assert [event.sequence for event in page.events] == [0, 1]

    async def test_a_session_must_exist_and_is_created_once(self, store: EventStore, make: DraftMaker) -> None:
        """`create` needs a session that is not there, all others one that is; and a retry of `create` is a retry."""
        with pytest.raises(SessionNotFound):
            await store.append(Append((make.action("s"),)))
        create = make.create("s")
        await store.append(create)
        with pytest.raises(SessionExists):
            await store.append(make.create("s"))
        assert (await store.append(Append((replace(create.drafts[0], fresh=False),), create=True))).repeated
        with pytest.raises(SessionNotFound):
            await store.append(Append((make.action("s"), make.action("t"))))
        assert store.head == 1

    async def test_expected_sequence_counts_what_clients_submitted(self, store: EventStore, make: DraftMaker) -> None:
        """Progress and observations never make a client fail; another client's event does."""
        await store.append(make.create("s"))
        action = make.action("s")
        await store.append(Append((action,), expected_sequence=-1))
        await store.append(Append((make.progress("s", action.id),)))
        with pytest.raises(SequenceMismatch) as mismatch:
            await store.append(Append((make.action("s"),), expected_sequence=-1))
        assert mismatch.value.extra == {"sequence": 1}
        await store.append(Append((make.action("s"),), expected_sequence=1))
        assert store.head == 4

    async def test_only_one_of_many_with_the_same_expectation_wins(self, store: EventStore, make: DraftMaker) -> None:
        """Preconditions are judged in commit order: one conflict fails one request and not its batch."""
        await store.append(make.create("s"))
        answers = await asyncio.gather(
            *(store.append(Append((make.action("s"),), expected_sequence=-1)) for _ in range(20)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, SequenceMismatch) for answer in answers) == 19
        assert store.head == 2

    async def test_only_the_newest_claim_may_publish(self, store: EventStore, make: DraftMaker) -> None:
        """The position of the newest `session_claimed` is the fence; a stale or invented one appends nothing."""
        await store.append(make.create("s"))
        with pytest.raises(StaleFence):
            await store.append(Append((make.progress("s", make.ids.new()),), fence=1))
        (first,) = (await store.append(Append((make.claimed("s"),)))).events
        await store.append(Append((make.progress("s", make.ids.new()),), fence=first.position))
        (second,) = (await store.append(Append((make.claimed("s"),)))).events
        with pytest.raises(StaleFence):
            await store.append(Append((make.progress("s", make.ids.new()),), fence=first.position))
        await store.append(Append((make.progress("s", make.ids.new()),), fence=second.position))
        assert store.head == 5

    async def test_an_action_ends_once(self, store: EventStore, make: DraftMaker) -> None:
        """Of many terminal observations of one action exactly one is written, also within a batch or a request."""
        await store.append(make.create("s"))
        action = make.action("s")
        await store.append(Append((action,)))
        with pytest.raises(ActionEnded):
            await store.append(Append((make.terminal("s", action.id), make.terminal("s", action.id))))
        answers = await asyncio.gather(
            *(store.append(Append((make.terminal("s", action.id),))) for _ in range(10)), return_exceptions=True
        )
        assert sum(isinstance(answer, ActionEnded) for answer in answers) == 9
        with pytest.raises(ActionEnded):
            await store.append(Append((make.terminal("s", action.id),)))
        assert store.head == 3

    async def test_open_actions_must_be_open(self, store: EventStore, make: DraftMaker) -> None:
        """A request that needs an action open fails once it has ended, and only then."""
        await store.append(make.create("s"))
        head, queued = make.action("s"), make.action("s")
        await store.append(Append((head, queued)))
        cancel = Append((make.progress("s", queued.id),), open_actions=(head.id, queued.id))
        await store.append(cancel)
        await store.append(Append((make.terminal("s", head.id),), open_actions=(head.id,)))
        with pytest.raises(ActionEnded):
            await store.append(Append((make.terminal("s", queued.id),), open_actions=(head.id, queued.id)))
        await store.append(Append((make.terminal("s", queued.id),), open_actions=(queued.id,)))

    async def test_a_closed_session_takes_no_actions_of_clients(self, store: EventStore, make: DraftMaker) -> None:
        """After `session_closed` a client's action is refused; observations and lifecycle go on."""
        await store.append(make.create("s"))
        action = make.action("s")
        await store.append(Append((action,)))
        with pytest.raises(SessionClosed):
            await store.append(Append((make.closed("s"), make.action("s"))))
        await store.append(Append((make.closed("s", source="client"),)))
        with pytest.raises(SessionClosed):
            await store.append(Append((make.action("s"),)))
        await store.append(Append((make.terminal("s", action.id),)))
        assert store.head == 4

    async def test_a_request_is_written_whole_or_not_at_all(self, store: EventStore, make: DraftMaker) -> None:
        """The drafts of one request stand side by side, whoever appends beside it; a refused one leaves no trace."""
        for session in ("a", "b"):
            await store.append(make.create(session))
        requests = [Append((make.action("a"), make.action("b"), make.action("a"))) for _ in range(50)]
        requests += [Append((make.action("a"), make.action("missing"))) for _ in range(50)]
        answers = await asyncio.gather(*map(store.append, requests), return_exceptions=True)
        for answer in answers[:50]:
            assert not isinstance(answer, BaseException)
            first = answer.events[0].position
            assert [event.position for event in answer.events] == [first, first + 1, first + 2]
        assert all(isinstance(answer, SessionNotFound) for answer in answers[50:])
        assert store.head == 152
        assert await store.verify() in ((), [])

    async def test_pages_follow_each_other_without_gap_or_repeat(self, store: EventStore, make: DraftMaker) -> None:
        """Pages of any size give each wanted event once, in order, and end at the head."""
        for session in ("a", "b"):
            await store.append(make.create(session))
        for number in range(30):
            await store.append(Append((make.action("ab"[number % 2]), make.progress("a", make.ids.new()))))
        everything = (await store.read(0, 1000)).events
        for where in (
            Filter(),
            Filter(tenant="default"),
            Filter(tenant="default", session="b"),
            Filter(kinds=frozenset({"progress", "session_created"})),
            Filter(tenant="default", session="a", categories=frozenset({"action"})),
            Filter(sources=frozenset({"worker"})),
            Filter(tenant="default", session="none"),
        ):
            for limit in (1, 7, 1000):
                found: list[Event] = []
                cursor = 0
                for _ in range(200):
                    page = await store.read(cursor, limit, where)
                    assert len(page.events) <= limit
                    assert page.next >= cursor
                    assert page.at_end == (page.next == store.head)
                    found += page.events
                    cursor = page.next
                    if page.at_end:
                        break
                assert found == [event for event in everything if where.admits(event)]
                assert cursor == store.head

    async def test_a_cursor_beyond_the_head_is_refused(self, store: EventStore, make: DraftMaker) -> None:
        """A place that this log has not reached is no place to read from; nor is a page without room."""
        await store.append(make.create("s"))
        assert (await store.read(1, 5)).at_end
        for after, limit, error in ((2, 5, InvalidCursor), (-1, 5, InvalidCursor), (0, 0, InvalidRequest)):
            with pytest.raises(error):
                await store.read(after, limit)

    async def test_blobs_are_reached_through_their_session(self, store: EventStore, make: DraftMaker) -> None:
        """A session names the blobs of its own events and no others."""
        digest = "ab" * 32
        for session in ("a", "b"):
            await store.append(make.create(session))
        await store.append(Append((make.action("a", blobs=(digest,)), make.action("a", blobs=(digest, "cd" * 32)))))
        await store.append(Append((make.action("a", blobs=(digest,)),)))
        assert await store.names_blob("default", "a", digest)
        assert await store.names_blob("default", "a", "cd" * 32)
        for tenant, session, other in (("default", "b", digest), ("other", "a", digest), ("default", "a", "ef" * 32)):
            assert not await store.names_blob(tenant, session, other)

    @pytest.mark.parametrize(
        "changes",
        [
            {"id": "no-uuid", "fresh": False},
            {"id": "018F0000-0000-7000-8000-00000000000A", "fresh": False},
            {"cause": "x"},
            {"request": b"short"},
            {"actor": "\ud800"},
            {"traceparent": "x" * 70_000},
            {"terminal": True},
            {"blobs": ("zz",)},
        ],
        ids=str,
    )
    async def test_what_the_log_cannot_hold_fails_alone(
        self, store: EventStore, make: DraftMaker, changes: dict[str, Any]
    ) -> None:
        """A malformed draft is its caller's error; what is appended beside it is written."""
        await store.append(make.create("s"))
        drafts = (make.action("s", **changes), make.action("s"))
        answers = await asyncio.gather(*(store.append(Append((draft,))) for draft in drafts), return_exceptions=True)
        bad, good = answers
        assert isinstance(bad, InvalidRequest)
        assert not isinstance(good, BaseException)
        for request in (
            Append(()),
            Append((make.action("s", id=good.events[0].id), make.action("s", id=good.events[0].id))),
        ):
            with pytest.raises(InvalidRequest):
                await store.append(request)
        assert store.head == 2

    async def test_too_much_waiting_is_refused(self, store: EventStore, make: DraftMaker) -> None:
        """The queue is bounded: what is over it fails at once and is not written, the rest is."""
        await store.append(make.create("s"))
        count = QUEUE_EVENTS_MAX // 500 + 4
        requests = [Append(tuple(make.action("s") for _ in range(500))) for _ in range(count)]
        answers = await asyncio.gather(*map(store.append, requests), return_exceptions=True)
        refused = sum(isinstance(answer, Overloaded) for answer in answers)
        assert 0 < refused < count
        assert store.head == 1 + 500 * (count - refused)

    async def test_a_cancelled_append_is_whole_or_nothing(self, store: EventStore, make: DraftMaker) -> None:
        """Whoever is cancelled while it waits can retry under the same ids and learn which it was."""
        await store.append(make.create("s"))
        requests = [Append((make.action("s", fresh=False), make.action("s", fresh=False))) for _ in range(40)]
        tasks = [asyncio.create_task(store.append(request)) for request in requests]
        for step, task in enumerate(tasks):
            if step % 5 == 0:
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for request in requests:
            await store.append(request)
        assert store.head == 81
        assert not await store.verify()

    async def test_close_writes_what_waits_and_then_refuses(self, store: EventStore, make: DraftMaker) -> None:
        """`aclose` commits what was accepted; every later call says that the store is closed; twice is once."""
        await store.append(make.create("s"))
        waiting = asyncio.gather(*(store.append(Append((make.action("s"),))) for _ in range(20)))
        await asyncio.sleep(0)
        await store.aclose()
        assert len(await waiting) == 20
        await store.aclose()
        for call in (store.append(make.create("t")), store.read(0, 1), store.find("default", make.ids.new())):
            with pytest.raises(StoreClosed):
                await call

    async def test_a_new_log_verifies_and_its_root_follows_the_leaves(
        self, store: EventStore, make: DraftMaker
    ) -> None:
        """The root changes with each commit and does not depend on how events were grouped; nothing is found wrong."""
        roots = {store.root}
        await store.append(make.create("s"))
        roots.add(store.root)
        await asyncio.gather(*(store.append(Append((make.action("s"),))) for _ in range(5000)))
        roots.add(store.root)
        assert len(roots) == 3
        told: list[tuple[int, int]] = []
        assert not await store.verify(lambda done, total: told.append((done, total)))
        assert told
        assert store.incarnation
