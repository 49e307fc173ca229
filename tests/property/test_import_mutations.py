"""Records damaged at random: an import takes all of them, typed or opaque, and the log takes what it makes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.imports.conversations import CODEC, events_of
from tests.unit.imports.v0_rows import ROWS

from chronicled.events.opaque import Opaque
from chronicled.migrations.openhands.v0.course import FORMAT, OpenHandsV0
from chronicled.migrations.openhands.v0.envelope import is_array, is_object
from chronicled.storage.imports.destination import Destination, open_nowhere
from chronicled.storage.imports.importer import Importer, ImportOptions
from chronicled.storage.imports.source import Record

FIXTURES = Path(__file__).parents[1] / "fixtures" / "openhands"
SEEDS = 10_000
BATCH = 500
STRANGE: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**63, -(2**70), 1e308, 0.5, "", "x", "<secret_hidden>", "\x00", "é" * 40, "2025-99",
    [], {}, [None], [[]], {"": None}, {"id": -5}, [{"action": "run"}, {"observation": "run"}],
    "print(file_editor(**{",
)  # fmt: skip


NAMES = ("", "id", "cause", "args", "extras", "action", "observation", "content", "timestamp", "source", "timeout")


class Made:
    """A source of made records."""

    place = "made"
    labels: dict[str, str] = {}  # noqa: RUF012  # a source's labels are an attribute of each

    def __init__(self, name: str, records: list[bytes]) -> None:
        self.name = name
        self._records = records

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield them."""
        for number, data in enumerate(self._records[start:], start):
            yield Record(f"@{number}", data)


@pytest.fixture
async def to() -> AsyncIterator[Destination]:
    """A log in memory."""
    async with open_nowhere() as destination:
        yield destination


def examples() -> list[Any]:
    """Return valid records of every shape."""
    found: list[Any] = [record for row in ROWS for record in row.records]
    for path in sorted(FIXTURES.glob("*.json")):
        found += json.loads(path.read_text())
    return [record for record in found if len(json.dumps(record)) < 20_000]


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every place inside a value: what holds it, and under which key."""
    if is_object(value) or is_array(value):
        for key, item in value.items() if is_object(value) else enumerate(value):
            found.append((value, key))
            places(item, found)
    return found


def mutated(chance: random.Random, record: Any) -> bytes:
    """Return the record with one to four things changed, as bytes."""
    value = copy.deepcopy(record)
    for _ in range(chance.randrange(1, 5)):
        inside = places(value, [])
        if not inside:
            break
        holder, key = chance.choice(inside)
        what = chance.randrange(4)
        if what == 0 and is_object(holder):
            del holder[key]
        elif what == 1 and is_object(holder):
            holder[chance.choice([*NAMES, f"{key}s"])] = holder.pop(key)
        elif what == 2:
            other, name = chance.choice(inside)
            holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = copy.deepcopy(chance.choice(STRANGE))
    data = bytearray(json.dumps(value).encode())
    if chance.random() < 0.1 and data:
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


async def test_damaged_records_never_stop_an_import(to: Destination) -> None:
    """Whatever 10,000 seeds change in valid records, the import ends; each event reads typed, or opaque by its kind."""
    valid = examples()
    importer = Importer(to.store, to.blobs, CODEC)
    opaque = 0
    for batch in range(0, SEEDS, BATCH):
        chances = [random.Random(seed) for seed in range(batch, batch + BATCH)]
        records = [mutated(chance, chance.choice(valid)) for chance in chances]
        source = Made(f"s{batch}", records)
        outcome = await importer.run(source, OpenHandsV0(), source.name, ImportOptions())
        assert outcome.records == BATCH
        opaque += outcome.opaque
        ended: set[str] = set()
        for event in await events_of(to.store, source.name):
            if isinstance(CODEC.decode(event), Opaque):
                assert event.kind == f"{FORMAT}.opaque"
            spec = CODEC.registry.find_current(event.category, event.kind)
            if spec is not None and spec.terminal:
                assert event.cause is not None
                assert event.cause not in ended
                ended.add(event.cause)
    assert 0 < opaque < SEEDS * 0.8
    assert not await to.store.verify()
