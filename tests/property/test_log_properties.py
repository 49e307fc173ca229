"""What holds for all inputs: cursors, ids, the codec and the tree."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronicled.events.clock import format_time, parse_time
from chronicled.events.codec import Codec, Opaque
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import ACTION, Event
from chronicled.events.errors import InvalidCursor
from chronicled.events.ids import SystemIds, id_bytes, id_text, normal_id
from chronicled.events.kinds.actions import Run
from chronicled.events.registry import builtin_registry
from chronicled.events.store import Append
from chronicled.storage.leaf import pack_texts
from chronicled.storage.memory import MemoryStore
from chronicled.storage.testing_drafts import DraftMaker
from chronicled.storage.tree import Frontier

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
CODEC = Codec(builtin_registry())


@given(st.integers(0, (1 << 63) - 1), st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True)))
def test_a_cursor_reads_what_it_writes(position: int, incarnation: str | None) -> None:
    """A cursor's text is the cursor."""
    cursor = Cursor(position, incarnation)
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(max_size=40))
def test_any_other_text_is_no_cursor(text: str) -> None:
    """A text is either refused by name or stands for exactly itself."""
    try:
        cursor = Cursor.parse(text)
    except InvalidCursor:
        return
    assert str(cursor) == text


@given(st.binary(min_size=16, max_size=16), st.integers(0, 4_102_444_800_000_000))
def test_ids_and_times_survive_their_text(raw: bytes, time: int) -> None:
    """What is stored as bytes and numbers comes back from its text."""
    assert id_bytes(id_text(raw)) == raw
    assert normal_id(id_text(raw).upper()) == id_text(raw)
    assert parse_time(format_time(time)) == time


@given(st.lists(st.integers(0, 1 << 44), min_size=1, max_size=300))
def test_new_ids_rise_whatever_the_clock_does(times: list[int]) -> None:
    """Ids are UUIDv7, each above the one before, even when the clock stands still or steps back."""

    class Stepping:
        def now_us(self) -> int:
            return times.pop() if times else 0

        def monotonic(self) -> float:
            return 0.0

    ids = SystemIds(Stepping())
    made = [ids.new() for _ in range(len(times) + 5)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(normal_id(id) == id and id[14] == "7" and id[19] in "89ab" for id in made)


@given(command=st.text(min_size=1), thought=TEXTS, tty=st.booleans())
def test_a_payload_survives_the_log(command: str, thought: str, tty: bool) -> None:
    """What is encoded, stored in an event and sent over the wire decodes to the same payload."""
    payload = Run(command=command, thought=thought, tty=tty)
    try:
        command.encode()
    except UnicodeEncodeError:
        return
    data = CODEC.encode("default", "s", CODEC.registry.current(ACTION, "run"), payload)
    event = Event(1, "default", "s", 0, "i", "run", 2, ACTION, "main", "client", "a", "t", msgspec.Raw(data), "")
    assert CODEC.decode(event) == payload
    assert CODEC.decode(msgspec.json.decode(msgspec.json.encode(event), type=Event)) == payload


@given(st.binary(max_size=200))
def test_decoding_is_total(data: bytes) -> None:
    """Any bytes give a payload or an `Opaque` that keeps them; nothing is raised."""
    event = Event(1, "default", "s", 0, "i", "run", 2, ACTION, "main", "client", "a", "t", msgspec.Raw(data), "")
    payload = CODEC.decode(event)
    assert isinstance(payload, Run) or payload.payload == data
    assert isinstance(payload, Run | Opaque)


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, max_size=6))
def test_packed_texts_tell_apart(first: list[str], second: list[str]) -> None:
    """Different texts pack to different bytes."""
    assert (pack_texts(*first) == pack_texts(*second)) == (first == second)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=80), st.data())
def test_the_root_does_not_depend_on_interruptions(leaves: list[bytes], data: st.DataObject) -> None:
    """However often the frontier is saved and loaded, the root is that of the leaves; another leaf gives another."""
    cuts = data.draw(st.sets(st.integers(0, len(leaves))))
    straight, interrupted = Frontier(), Frontier()
    for index, leaf in enumerate(leaves):
        if index in cuts:
            interrupted = Frontier.load(interrupted.size, interrupted.dump())
        straight.append(leaf)
        interrupted.append(leaf)
    assert straight.root() == interrupted.root()
    changed = Frontier()
    place = data.draw(st.integers(0, len(leaves) - 1))
    for index, leaf in enumerate(leaves):
        changed.append(sha256(leaf).digest() if index == place else leaf)
    assert changed.root() != straight.root()


class Still:
    """A clock that stands still, and randomness that is none: two logs of the same drafts are the same."""

    def now_us(self) -> int:
        """Return one instant."""
        return 1_795_000_000_000_000

    def monotonic(self) -> float:
        """Return one instant."""
        return 0.0

    def bytes(self, count: int) -> bytes:
        """Return zeros."""
        return bytes(count)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_the_root_does_not_depend_on_how_events_were_grouped(groups: list[int]) -> None:
    """One commit or many: the same drafts in the same order give the same root."""
    make = DraftMaker()
    create = make.create("s")
    drafts = [make.action("s") for _ in range(sum(groups))]

    async def root(sizes: list[int]) -> bytes:
        async with await MemoryStore.open(clock=Still(), randomness=Still()) as store:
            await store.append(create)
            rest = iter(drafts)
            for size in sizes:
                await store.append(Append(tuple(next(rest) for _ in range(size))))
            return store.root

    assert asyncio.run(root(groups)) == asyncio.run(root([1] * sum(groups))) == asyncio.run(root([sum(groups)]))


def test_a_changed_event_changes_the_root() -> None:
    """The negative control of the test above."""
    make = DraftMaker()
    create = make.create("s")
    other = msgspec.structs.replace(create.drafts[0], actor="x")

    async def root(request: Append) -> bytes:
        async with await MemoryStore.open(clock=Still(), randomness=Still()) as store:
            await store.append(request)
            return store.root

    assert asyncio.run(root(create)) == asyncio.run(root(create))
    assert asyncio.run(root(create)) != asyncio.run(root(Append((other,), create=True)))


pytestmark = pytest.mark.timeout(200)
