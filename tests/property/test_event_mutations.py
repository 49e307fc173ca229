"""No event, whatever became of its bytes or its label, ends a read: it is typed or opaque, and all others stay."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.property.mutations import mutated, originals
from tests.unit.events.test_kinds import event

from chronicled.cli.printing import event_line
from chronicled.daemon.http.bodies import EventPage
from chronicled.daemon.metrics import Metrics, outcome_of
from chronicled.events import Append, Codec, Event, Opaque
from chronicled.events.envelope import CATEGORIES, Draft
from chronicled.events.lanes import SessionFold
from chronicled.events.presentation import Presentation
from chronicled.events.store import Page
from chronicled.events.versions import CURRENT, STORED, Versions
from chronicled.events.worker_log import SessionKey
from chronicled.migrations.vocabulary import vocabulary
from chronicled.runtimes.worker.refusal import refusal
from chronicled.storage.examination import examine
from chronicled.storage.log_file import open_log_file
from chronicled.storage.projections import open_projections
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.sse import SharedMessages
from chronicled.storage.verification import verify_file

SEEDS = 10_000
PAGE = 100
KEY = SessionKey("default", "mutated")
REGISTRY, CHAIN = vocabulary()
KNOWN = originals()
CREATED = b'{"runtime":"process"}'
READERS = (CURRENT, STORED, Versions.of({"run": 1, "read": 1, "session_created": 1}))


def made_codec() -> Codec:
    """Return a codec of our own kinds."""
    return Codec(REGISTRY, CHAIN)


@contextmanager
def seed_told(seed: int) -> Generator[None]:
    """Name the seed in whatever goes wrong."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error


def pages() -> Iterator[tuple[int, list[Event]]]:
    """Yield all mutations in pages, each with its first seed."""
    for first in range(0, SEEDS, PAGE):
        yield first, [mutated(seed, KNOWN, seed - first + 1) for seed in range(first, first + PAGE)]


def typed_or_opaque(codec: Codec, event: Event) -> bool:
    """Check that the event is read as its current struct or as what it is; return whether it is opaque."""
    read = codec.decode(event)
    if isinstance(read, Opaque):
        assert (read.kind, read.version, read.payload) == (event.kind, event.version, bytes(event.payload))
        assert read.reason
        return True
    spec = REGISTRY.find_current(event.category, event.kind, event.version)
    assert spec is not None
    assert type(read) is spec.payload
    msgspec.json.encode(read)
    return False


def test_ten_thousand_mutations_are_typed_or_opaque() -> None:
    """The codec reads each, and tells both sorts apart."""
    codec, opaque = made_codec(), 0
    for seed in range(SEEDS):
        with seed_told(seed):
            opaque += typed_or_opaque(codec, mutated(seed, KNOWN))
    assert SEEDS // 10 < opaque < SEEDS * 9 // 10, "mutations that are all of one sort would show nothing"


def test_ten_thousand_mutations_are_shown() -> None:
    """In pages and as server-sent events, to every sort of reader: the answers are JSON, and hold every event."""
    codec = made_codec()
    metrics = Metrics(REGISTRY)
    codec.told = metrics.unreadable
    presentation, messages = Presentation(codec), SharedMessages("inc")
    for first, events in pages():
        for reader in READERS:
            with seed_told(first):
                shown = presentation.show_all(events, reader, refuses=False)
                body = msgspec.json.encode(EventPage(events=tuple(shown), next=PAGE, at_end=False, incarnation="i"))
                read = msgspec.json.decode(body, type=EventPage).events
                assert [event.position for event in read] == list(range(1, PAGE + 1))
                for event in read:
                    event_line(event)
                    outcome_of(event)

                def show(page: Any, reader: Versions = reader) -> Any:
                    return presentation.show_all(page, reader, refuses=False)

                text = messages.render(Page(tuple(events), PAGE, at_end=False), reader, show)
                data = [line[6:] for line in text.split(b"\n") if line.startswith(b"data: ")]
                assert [msgspec.json.decode(each, type=Event) for each in data] == list(read)
    assert 'reason="not_json"' in metrics.exposition()


def test_ten_thousand_mutations_are_folded() -> None:
    """The fold of a session, which daemon and worker share, takes each; what is open in it can be judged."""
    codec = made_codec()
    for first, events in pages():
        fold = SessionFold(KEY, REGISTRY)
        fold.apply(event("session_created", CREATED, 1, "lifecycle"))
        for number, changed in enumerate(events):
            with seed_told(first + number):
                fold.apply(msgspec.structs.replace(changed, position=number + 2))
                again = SessionFold.of_claim(fold.claim(number + 2), REGISTRY)
                assert [each.id for each in again] == [each.id for each in fold]
        for action in fold:
            refusal(fold, codec, action)


async def test_a_log_of_mutations_is_opened_projected_verified_and_examined(tmp_path: Path) -> None:
    """A log that holds all of them is folded at a start, verifies, and every payload that cannot be read is found."""
    codec = made_codec()
    path = tmp_path / LOG_NAME
    opaque = 0
    async with await SqliteStore.open(path) as store:
        for first, events in pages():
            session = f"s{first}"
            created = Draft("default", session, _id(first, 0), "session_created", 1, "lifecycle", CREATED)
            await store.append(Append((created,), create=True))
            drafts = [_draft(session, event, _id(first, number + 1)) for number, event in enumerate(events)]
            await store.append(Append(tuple(drafts)))
            opaque += sum(isinstance(codec.decode(event), Opaque) for event in events)
        async with open_projections(tmp_path / "projections.sqlite", store, codec) as projections:
            assert projections.position == store.head
            for key in projections.unfinished():
                assert await projections.session(key.tenant, key.session) is not None
        async with open_projections(tmp_path / "projections.sqlite", store, codec) as projections:
            assert projections.position == store.head
    assert verify_file(path).problems == ()
    with open_log_file(path) as log:
        assert sum(row.events for row in examine(log, codec)) == opaque


def _id(first: int, number: int) -> str:
    return f"01900000-0000-7000-{8000 + number:04d}-{first:012d}"


def _draft(session: str, event: Event, id: str) -> Draft:
    return Draft(
        "default", session, id, event.kind, event.version, event.category, bytes(event.payload), source="worker"
    )


class Strict(Codec):
    """A codec that raises for what it cannot read."""

    def decode(self, event: Event) -> Any:
        """Decode, or raise."""
        read = super().decode(event)
        if isinstance(read, Opaque):
            raise ValueError(read.reason)
        return read


class Loose(Codec):
    """A codec that gives something else than the kind's struct."""

    def decode(self, event: Event) -> Any:
        """Decode to whatever it is."""
        read = super().decode(event)
        return read if isinstance(read, Opaque) else msgspec.to_builtins(read)


@pytest.mark.parametrize("kind", [Strict, Loose])
def test_a_read_that_is_not_total_is_found(kind: type[Codec]) -> None:
    """Negative control: a codec that raises, or gives no struct, does not pass, and the seed is told."""
    codec = kind(REGISTRY, CHAIN)

    def read() -> None:
        for seed in range(SEEDS):
            with seed_told(seed):
                typed_or_opaque(codec, mutated(seed, KNOWN))

    with pytest.raises(AssertionError, match=r"seed \d+"):
        read()


def test_mutations_are_what_their_seed_says() -> None:
    """A failure can be looked at again; every category is among them."""
    seed = random.randrange(SEEDS)
    assert mutated(seed, KNOWN) == mutated(seed, KNOWN)
    assert {mutated(seed, KNOWN).category for seed in range(200)} == set(CATEGORIES)
