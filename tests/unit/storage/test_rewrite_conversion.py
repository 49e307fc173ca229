"""What becomes of single events when a log is written anew, whatever a third party's steps do."""

from __future__ import annotations

from typing import Any

import pytest

from chronicled.events import Payload, action
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE
from chronicled.events.errors import InvalidPayload
from chronicled.migrations.chain import Further, Upcaster, unchanged
from chronicled.migrations.unit import Unit
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.record import Label
from chronicled.storage.rewrite.conversion import Conversion

STORED = b'{"text":"a"}'


class Note(Payload, frozen=True, kw_only=True):
    """Only recorded."""

    text: str = ""


def conversion(step: Upcaster) -> Conversion:
    """Return a conversion by a unit with one step."""
    kinds = (action("acme.note", Note), action("acme.note", Note, version=2))
    registry, chain = vocabulary([Unit(name="acme", kinds=kinds, upcasters=(step,))])
    return Conversion(Codec(registry, chain), chain)


def converted(step: Upcaster) -> list[tuple[str, int, bytes | None]]:
    """Return what becomes of an event of the first version."""
    label = Label(1, "acme.note", 1, "main", "client", "uid:0")
    return [(each.kind, each.version, each.payload) for each in conversion(step).converted(bytes(16), label, STORED)]


def _split(kind: str) -> Upcaster:
    return Upcaster("action", "acme.note", 1, unchanged, further=lambda _: [Further("action", kind, {"text": "more"})])


def test_a_units_event_can_become_several_of_its_own() -> None:
    """Negative control for the next: what bears the owner's prefix is added."""
    assert converted(_split("acme.note")) == [("acme.note", 2, STORED), ("acme.note", 2, b'{"text":"more"}')]


def test_what_is_added_may_have_a_map_from_numbers() -> None:
    """Its names are texts, as in JSON, and numbers where the kind's current version has them."""

    class Tally(Payload, frozen=True, kw_only=True):
        """Only recorded."""

        counts: dict[int, int] = {}  # noqa: RUF012 - msgspec copies it

    more = Further("action", "acme.tally", {"counts": {"7": 1}})
    step = Upcaster("action", "acme.note", 1, unchanged, further=lambda _: [more])
    kinds = (action("acme.note", Note), action("acme.note", Note, version=2), action("acme.tally", Tally))
    registry, chain = vocabulary([Unit(name="acme", kinds=kinds, upcasters=(step,))])
    label = Label(1, "acme.note", 1, "main", "client", "uid:0")
    _, added = Conversion(Codec(registry, chain), chain).converted(bytes(16), label, STORED)
    assert added.payload == b'{"counts":{"7":1}}'


def test_each_of_several_has_an_id_of_its_own_and_always_the_same() -> None:
    """So a comparison makes them anew, and a log takes them all."""
    more = [Further("action", "acme.note", {"text": text}) for text in "bcd"]
    step = Upcaster("action", "acme.note", 1, unchanged, further=lambda _: more)
    label = Label(1, "acme.note", 1, "main", "client", "uid:0")
    once, again = (conversion(step).converted(bytes(16), label, STORED) for _ in range(2))
    assert once == again
    assert len({each.id for each in once}) == 4
    assert [each.payload for each in once] == [b'{"text":"%c"}' % letter for letter in b"abcd"]
    other = conversion(step).converted(bytes(15) + b"1", label, STORED)
    assert not {each.id for each in once} & {each.id for each in other}


@pytest.mark.parametrize("kind", ["message", "session_closed"])
def test_a_unit_adds_nothing_of_ours(kind: str) -> None:
    """A step of a third party cannot have a rewrite put words into others' mouths, or close a session."""
    step = _split(kind)
    if kind == "session_closed":
        step = Upcaster("action", "acme.note", 1, unchanged, further=lambda _: [Further(LIFECYCLE, kind, {})])
    with pytest.raises(InvalidPayload, match="not its owner's"):
        converted(step)


def _unwritable(_: dict[str, Any]) -> dict[str, Any]:
    return {"text": "\ud800"}


def test_what_cannot_be_written_anew_stays_as_it_is() -> None:
    """A step whose text is not Unicode costs nobody the rewrite, and no byte is changed."""
    assert converted(Upcaster("action", "acme.note", 1, _unwritable)) == [("acme.note", 1, STORED)]
