"""Event stores against a model that is a list: any order of calls, any grouping, any number of reopenings."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from chronicled.events.envelope import Draft, Event
from chronicled.events.errors import (
    ActionEnded,
    ChronicledError,
    IdReused,
    SequenceMismatch,
    SessionClosed,
    SessionExists,
    SessionNotFound,
    StaleFence,
)
from chronicled.events.store import Append, Appended, EventStore, Filter
from chronicled.storage.assembly import Assembly
from chronicled.storage.memory import MemoryStore
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker

SESSIONS = ("a", "b", "c")
Expected = type[ChronicledError] | list[int]
"""The error, or the positions of the events."""


class Model:
    """The log as a list, and the rules in their plainest form."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    def of(self, session: str) -> list[tuple[int, Draft]]:
        """Return the session's drafts with their positions."""
        return [(position, draft) for position, draft in enumerate(self.drafts, 1) if draft.session == session]

    def ended(self, action: str) -> bool:
        """Tell whether the action has its terminal observation."""
        return any(draft.terminal and draft.cause == action for draft in self.drafts)

    def apply(self, request: Append) -> Expected:
        """Append to the list, or say why not."""
        known = {draft.id: position for position, draft in enumerate(self.drafts, 1)}
        positions = [known.get(draft.id) for draft in request.drafts]
        if any(position is not None for position in positions):
            earlier = [position for position in positions if position is not None]
            same = len(earlier) == len(positions) and all(
                self.drafts[position - 1].request == draft.request
                for position, draft in zip(earlier, request.drafts, strict=True)
            )
            return earlier if same else IdReused
        refusal = self.refusal(request)
        if refusal is not None:
            return refusal
        start = len(self.drafts) + 1
        self.drafts += request.drafts
        return list(range(start, len(self.drafts) + 1))

    def refusal(self, request: Append) -> type[ChronicledError] | None:
        """Return why the request cannot be written."""
        session = request.drafts[0].session
        history = self.of(session)
        if request.create == bool(history):
            return SessionExists if history else SessionNotFound
        claims = [position for position, draft in history if draft.kind == "session_claimed"]
        if request.fence is not None and (not claims or claims[-1] != request.fence):
            return StaleFence
        submitted = [sequence for sequence, (_, draft) in enumerate(history) if draft.source == "client"]
        last = submitted[-1] if submitted else -1
        if request.expected_sequence is not None and request.expected_sequence != last:
            return SequenceMismatch
        if any(self.ended(action) for action in request.open_actions):
            return ActionEnded
        closed = any(draft.kind == "session_closed" for _, draft in history)
        for index, draft in enumerate(request.drafts):
            others = request.drafts[:index]
            if draft.terminal and (
                self.ended(str(draft.cause)) or any(other.terminal and other.cause == draft.cause for other in others)
            ):
                return ActionEnded
            over = closed or any(other.kind == "session_closed" for other in others)
            if over and draft.category == "action" and draft.source == "client":
                return SessionClosed
        return None


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to the model, several requests at once, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.make = DraftMaker()
        self.requests: list[Append] = []
        self.heard: list[Event] = []
        self.waiting: list[Append] = []
        self.store: EventStore

    async def open(self) -> EventStore:
        """Open the store: the same log each time."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Begin with an empty log."""
        self.store = self.runner.run(self.open())
        self.store.listen(self.heard.extend)
        # Something to work with, so that the rules meet each other early.
        self.waiting += [self.make.create("a"), self.make.create("b")]
        self.waiting += [Append((self.make.action(session),)) for session in ("a", "a", "b")]
        self.waiting += [Append((self.make.claimed("a"),)), Append((self.make.claimed("a"),))]
        self.commit()

    def teardown(self) -> None:
        """Compare everything once more, and close."""
        if hasattr(self, "store"):
            self.commit()
            assert self.runner.run(self.store.verify()) in ((), [])
            self.runner.run(self.store.aclose())
        self.runner.close()

    def actions(self) -> list[str]:
        """Return the ids of the actions so far."""
        return [draft.id for draft in self.model.drafts if draft.category == "action"]

    def claims(self, session: str) -> list[int]:
        """Return the positions of the session's claims."""
        return [position for position, draft in self.model.of(session) if draft.kind == "session_claimed"]

    @rule(session=st.sampled_from(SESSIONS))
    def create(self, session: str) -> None:
        """Create a session, or try to."""
        self.waiting.append(self.make.create(session))

    @rule(
        session=st.sampled_from(SESSIONS),
        count=st.integers(1, 3),
        expected=st.one_of(st.none(), st.integers(-1, 6)),
        fresh=st.booleans(),
    )
    def submit(self, session: str, count: int, expected: int | None, fresh: bool) -> None:
        """Submit actions, perhaps expecting a sequence."""
        digest = bytes([count]) * 32
        drafts = tuple(self.make.action(session, fresh=fresh, request=digest) for _ in range(count))
        self.waiting.append(Append(drafts, expected_sequence=expected))

    @rule(data=st.data(), other=st.booleans())
    def retry(self, data: st.DataObject, other: bool) -> None:
        """Send an earlier request again, or another one under its ids."""
        if self.requests:
            request = data.draw(st.sampled_from(self.requests))
            drafts = tuple(
                replace(draft, fresh=False, request=bytes([99]) * 32 if other else draft.request)
                for draft in request.drafts
            )
            self.waiting.append(replace(request, drafts=drafts))

    @rule(session=st.sampled_from(SESSIONS))
    def claim(self, session: str) -> None:
        """Claim a session."""
        self.waiting.append(Append((self.make.claimed(session),)))

    @rule(data=st.data(), session=st.sampled_from("ab"), terminal=st.booleans(), times=st.integers(1, 2))
    def publish(self, data: st.DataObject, session: str, terminal: bool, times: int) -> None:
        """Publish observations of some action under some claim, progress or the end, perhaps twice in a commit."""
        fence = data.draw(st.sampled_from([None, *self.claims(session), 1]))
        action = data.draw(st.sampled_from(self.actions()))
        for _ in range(times):
            draft = (self.make.terminal if terminal else self.make.progress)(session, action)
            self.waiting.append(Append((draft,), fence=fence))

    @rule(data=st.data(), session=st.sampled_from(SESSIONS))
    def need_open(self, data: st.DataObject, session: str) -> None:
        """Append something that needs actions to be open."""
        needed = data.draw(st.lists(st.sampled_from(self.actions()), min_size=1, max_size=2))
        self.waiting.append(Append((self.make.progress(session, needed[0]),), open_actions=tuple(needed)))

    @rule(session=st.sampled_from(SESSIONS), action_too=st.booleans())
    def close_session(self, session: str, action_too: bool) -> None:
        """Close a session, perhaps with an action behind it in the same request."""
        drafts = [self.make.closed(session)]
        if action_too:
            drafts.append(self.make.action(session))
        self.waiting.append(Append(tuple(drafts)))

    @rule()
    def commit(self) -> None:
        """Send what gathered, all at once; each request ends as the model says, in the order of sending."""
        requests, self.waiting = self.waiting, []

        async def send() -> list[Appended | BaseException]:
            return await asyncio.gather(*map(self.store.append, requests), return_exceptions=True)

        answers = self.runner.run(send())
        for request, answer in zip(requests, answers, strict=True):
            expected = self.model.apply(request)
            if isinstance(expected, list):
                assert isinstance(answer, Appended), (request, answer)
                assert [event.position for event in answer.events] == expected
                self.requests.append(request)
            else:
                assert type(answer) is expected, (request, answer, expected)

    @rule()
    def commit_again(self) -> None:
        """The same: batches are to be small as well as large."""
        self.commit()

    @precondition(lambda self: not self.waiting)
    @rule(
        data=st.data(),
        session=st.one_of(st.none(), st.sampled_from((*SESSIONS, "nobody"))),
        kinds=st.frozensets(st.sampled_from(["run", "progress", "session_created"]), max_size=2),
        categories=st.frozensets(st.sampled_from(["action", "observation"]), max_size=1),
        sources=st.frozensets(st.sampled_from(["client", "worker"]), max_size=1),
        limit=st.integers(1, 5),
    )
    def read(
        self, data: st.DataObject, session: str | None, kinds: Any, categories: Any, sources: Any, limit: int
    ) -> None:
        """Read all that a filter wants from any place on, in pages."""
        tenant = None if session is None else "default"
        where = Filter(tenant=tenant, session=session, kinds=kinds, categories=categories, sources=sources)
        after = cursor = data.draw(st.integers(0, len(self.model.drafts)))
        found: list[int] = []
        for _ in range(len(self.model.drafts) + 1):
            page = self.runner.run(self.store.read(cursor, limit, where))
            found += [event.position for event in page.events]
            cursor = page.next
            if page.at_end:
                break
        assert cursor == len(self.model.drafts)
        assert found == [
            position
            for position, draft in enumerate(self.model.drafts, 1)
            if position > after
            and session in {None, draft.session}
            and (not kinds or draft.kind in kinds)
            and (not categories or draft.category in categories)
            and (not sources or draft.source in sources)
        ]

    @invariant()
    def the_log_is_the_list(self) -> None:
        """Positions, ids and payloads are the model's, and listeners heard each event once, in order."""
        if hasattr(self, "store"):
            assert self.store.head == len(self.model.drafts)
            assert [event.position for event in self.heard] == list(range(1, self.store.head + 1))
            assert [event.id for event in self.heard] == [draft.id for draft in self.model.drafts]


class MemoryMachine(StoreMachine):
    """The machine over memory."""

    async def open(self) -> EventStore:
        """Open a new store."""
        return await MemoryStore.open()


class SqliteMachine(StoreMachine):
    """The machine over SQLite, which is closed and opened again at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()

    async def open(self) -> EventStore:
        """Open the log in the machine's directory."""
        return await SqliteStore.open(Path(self.directory.name) / LOG_NAME, reserve_bytes=4096)

    @rule()
    def reopen(self) -> None:
        """Close and open: the log is the same, to the root, and goes on."""
        before = (self.store.head, self.store.root, self.store.incarnation)
        self.runner.run(self.store.aclose())
        self.store = self.runner.run(self.open())
        self.store.listen(self.heard.extend)
        assert (self.store.head, self.store.root, self.store.incarnation) == before

    def teardown(self) -> None:
        """Close, and leave nothing behind."""
        super().teardown()
        self.directory.cleanup()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("machine", "examples"), [(MemoryMachine, 120), (SqliteMachine, 50)])
def test_a_store_is_the_list(machine: type[StoreMachine], examples: int) -> None:
    """Whatever is done in whatever order and grouping, the store answers and holds what the list says."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=checks),
    )


class Forgetful(set[tuple[str, bytes]]):
    """A set that never remembers."""

    def __contains__(self, key: object) -> bool:
        return False


def forget_what_ends_within_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a batch end an action twice."""
    begin = Assembly.__init__

    def broken(self: Assembly, *args: Any) -> None:
        begin(self, *args)
        monkeypatch.setattr(self, "ended", Forgetful())

    monkeypatch.setattr(Assembly, "__init__", broken)


def take_every_retry_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any request under a known id pass for the earlier one."""

    def same(draft: Draft, known: object) -> bool:
        return True

    monkeypatch.setattr("chronicled.storage.assembly._same", same)


@pytest.mark.parametrize("fault", [forget_what_ends_within_a_batch, take_every_retry_for_the_same])
def test_the_machine_would_find_a_broken_store(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: with one rule taken out, the store and the list part."""
    fault(monkeypatch)
    quick = settings(
        max_examples=300,
        stateful_step_count=40,
        deadline=None,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
    )
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(MemoryMachine, settings=quick)
