"""Steps between versions: renames, shapes, changed meanings, ways back, and what a chain refuses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.events.test_kinds import event
from tests.unit.migrations.history import CHAIN, REGISTRY, Asked, Ended, Heavy, Mark, Probe, Sleep, Weigh, codec

from chronicled.events import Codec, Opaque, Payload, Registry, action, observation
from chronicled.events.errors import UnknownKind
from chronicled.events.opaque import WHYS
from chronicled.events.presentation import Presentation
from chronicled.events.versions import Versions
from chronicled.migrations.chain import Chain, Downcaster, Upcaster, unchanged
from chronicled.migrations.fields import Fields, reader


def test_a_meaning_that_changed_is_read_as_it_was_meant() -> None:
    """The schema is the same in both versions, and a number still counts in the unit of its own time."""
    assert codec().decode(event("acme.sleep", b'{"duration":1500}', 1)) == Sleep(duration=1.5)
    assert codec().decode(event("acme.sleep", b'{"duration":1500}', 2)) == Sleep(duration=1500)


def test_a_renamed_kind_is_read_under_its_name_of_today() -> None:
    """Through every version behind the rename; what is written in it now is not what is read."""
    spec, payload = found(event("acme.probe", b'{"target":"anvil"}', 1))
    assert (spec.kind, spec.version, payload) == ("acme.weigh", 2, Heavy(scale="anvil"))
    assert REGISTRY.find_current("action", "acme.probe") is REGISTRY.current("action", "acme.weigh")
    with pytest.raises(UnknownKind, match=r"called 'acme\.weigh' now"):
        REGISTRY.current("action", "acme.probe")


def test_a_rename_is_found_under_every_spelling() -> None:
    """Filters by today's name and by a former one find all; other kinds are left alone."""
    assert REGISTRY.spellings(frozenset({"acme.weigh"})) == {"acme.weigh", "acme.probe"}
    assert REGISTRY.spellings(frozenset({"acme.probe"})) == {"acme.weigh", "acme.probe"}
    assert REGISTRY.spellings(frozenset({"acme.ask"})) == {"acme.ask", "acme.say"}
    assert REGISTRY.spellings(frozenset({"run"})) == {"run"}


def test_what_ends_a_renamed_action_has_todays_name() -> None:
    """An action of a former name that is still open ends in an observation that a current reader knows."""
    assert REGISTRY.terminal_of("acme.probe", 1) is REGISTRY.current("observation", "acme.weigh")
    assert REGISTRY.terminal_of("run").payload is REGISTRY.current("observation", "run").payload
    assert found(event("acme.probe", b'{"outcome":"ok","effects":"complete"}', 1, "observation"))[0].terminal


def test_the_shape_decides_where_a_name_had_two_meanings() -> None:
    """Each payload of one version goes the way that its own shape says."""
    asked, payload = found(event("acme.say", b'{"question":"why?"}', 1))
    assert (asked.kind, payload) == ("acme.ask", Asked(question="why?"))
    marked, payload = found(event("acme.say", b'{"text":"so"}', 1))
    assert (marked.kind, payload) == ("acme.mark", Mark(text="so"))


def found(stored: Any) -> Any:
    """Return what the event is read as."""
    read = codec().read(stored)
    assert not isinstance(read, Opaque), read.reason
    return read


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (event("acme.lost", b"{}"), "unknown_kind"),
        (event("acme.weigh", b"{}", 9), "newer_version"),
        (event("acme.sleep", b'{"duration":"long"}', 1), "upcaster_failed"),
        (event("acme.sleep", b'{"duration":"long"}', 2), "misfit"),
        (event("acme.say", b'{"text":7}', 1), "misfit"),
        (event("acme.probe", b'{"target":', 1), "not_json"),
        (event("acme.sleep", b"\xff\xfe", 2), "not_json"),
        (event("acme.weigh", b"null", 2), "erased"),
    ],
)
def test_what_cannot_be_read_is_told_apart_and_counted(stored: Any, why: str) -> None:
    """Each reason has a word of a closed set, and whoever counts hears of each."""
    reading, told = codec(), list[Opaque]()
    reading.told = told.append
    opaque = reading.decode(stored)
    assert isinstance(opaque, Opaque)
    assert opaque.why == why
    assert why in WHYS
    assert told == [opaque]
    assert Codec(REGISTRY).decode(event("acme.sleep", b'{"duration":1}', 1)).why == "no_upcaster"


def test_fields_are_changed_alike_at_once_and_one_by_one() -> None:
    """Steps said as data give the same whether they are made into one or called in turn."""

    class One(Payload, frozen=True, kw_only=True):
        a: str
        b: int = 0
        gone: bool = False
        kept: list[int] = []  # noqa: RUF012 - msgspec copies it

    class Three(Payload, frozen=True, kw_only=True):
        alpha: str
        beta: float = 0.5
        kept: tuple[int, ...] = ()
        origin: str = "here"
        new: int = 7

    steps = [
        Fields(renamed={"a": "b", "b": "a"}),
        Fields(renamed={"b": "alpha", "a": "beta"}, changed={"a": float}, removed=("gone",)),
        Fields(added={"origin": "there"}),
    ]
    old = One(a="x", b=3, gone=True, kept=[1, 2])
    value: Any = msgspec.to_builtins(old)
    for step in steps:
        value = step(value)
    at_once = reader(One, Three, steps)(msgspec.Raw(msgspec.json.encode(old)))
    assert at_once == msgspec.convert(value, Three) == Three(alpha="x", beta=3.0, kept=(1, 2), origin="there")
    with pytest.raises(msgspec.ValidationError):
        reader(One, Three, steps)(msgspec.Raw(b'{"a":7}'))
    with pytest.raises(ValueError, match="has no field 'gone'"):
        reader(One, Three, [steps[0], Fields(renamed={"b": "alpha", "a": "beta"})])


def _seven(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "text": 7}


def test_what_a_step_makes_is_checked_before_it_is_told() -> None:
    """A change that makes what does not fit gives no struct with a wrong field: such a payload is opaque."""
    registry = Registry([action("acme.mark", Mark), action("acme.mark", Mark, version=2)])
    for wrong in (Fields(changed={"text": len}), _seven):
        opaque = Codec(registry, Chain([Upcaster("action", "acme.mark", 1, wrong)])).decode(
            event("acme.mark", b'{"text":"abc"}', 1)
        )
        assert isinstance(opaque, Opaque)
        assert opaque.why == "misfit"


def test_ways_back_end_where_an_older_version_has_no_words() -> None:
    """A payload goes back version by version, under the name of then; what cannot be told raises."""
    assert CHAIN.before("action", "acme.weigh", 1) == ("acme.probe", 1)
    assert CHAIN.downcast("action", "acme.weigh", 2, {"scale": "a"}) == ("acme.weigh", 1, {"target": "a"})
    assert CHAIN.downcast("action", "acme.weigh", 1, {"target": "a"}) == ("acme.probe", 1, {"target": "a"})
    with pytest.raises(ValueError, match="always kilograms"):
        CHAIN.downcast("action", "acme.weigh", 1, {"target": "a", "unit": "lb"})
    with pytest.raises(LookupError):
        CHAIN.downcast("action", "acme.sleep", 2, {})


PROBE = action("acme.probe", Probe, becomes=(("acme.weigh", 1),))
WEIGH = action("acme.weigh", Weigh)
LED = Upcaster("action", "acme.probe", 1, unchanged, becomes=("acme.weigh", 1))
TESTED = Upcaster("action", "acme.probe", 1, unchanged, becomes=("acme.weigh", 1), when=lambda payload: True)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "no upcaster from version 1 to acme.weigh 1"),
        ([Upcaster("action", "acme.probe", 1, unchanged)], "no upcaster from version 1 to acme.weigh 1"),
        ([TESTED], "may fit none"),
        ([TESTED, Upcaster("action", "acme.probe", 1, unchanged, becomes=("acme.other", 1))], "does not say so"),
        ([LED, LED], "two upcasters"),
        ([LED, Upcaster("action", "acme.weigh", 1, unchanged)], "no old version"),
    ],
)
def test_a_chain_that_does_not_fit_its_kinds_is_refused(steps: list[Upcaster], message: str) -> None:
    """A step that is missing, leads elsewhere, may fit nothing or is there twice is found before anything is read."""
    with pytest.raises(ValueError, match=message):
        Chain(steps).check(Registry([PROBE, WEIGH]))


def test_a_way_back_that_leads_nowhere_is_refused() -> None:
    """A downcaster must go from a version to one that is brought to it."""
    registry = Registry([PROBE, WEIGH])
    with pytest.raises(ValueError, match="leads to no former one"):
        Chain([LED], [Downcaster("action", "acme.probe", 1, unchanged)]).check(registry)
    with pytest.raises(ValueError, match="two downcasters"):
        Chain([LED], [Downcaster("action", "acme.probe", 1, unchanged, above=("acme.weigh", 1))] * 2)
    Chain([LED], [Downcaster("action", "acme.probe", 1, unchanged, above=("acme.weigh", 1))]).check(registry)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([PROBE], "which is not there"),
        ([action("acme.probe", Probe, becomes=(("acme.probe", 1),))], "becomes itself"),
        (
            [
                action("acme.probe", Probe, runnable=True, becomes=(("acme.weigh", 1),)),
                observation("acme.probe", Ended, terminal=True),
                WEIGH,
            ],
            "acts otherwise",
        ),
        (
            [
                action("acme.probe", Probe, runnable=True, becomes=(("acme.weigh", 1), ("acme.lift", 1))),
                action("acme.weigh", Weigh, runnable=True),
                action("acme.lift", Weigh, runnable=True),
            ],
            "cannot depend on the payload",
        ),
    ],
)
def test_a_rename_to_what_acts_otherwise_is_refused(specs: list[Any], message: str) -> None:
    """What runs and what ends it must be told from the label alone; and a rename must lead somewhere."""
    with pytest.raises(ValueError, match=message):
        Registry(specs).check()


def test_a_rename_of_what_may_be_a_blob_is_made_in_both_places() -> None:
    """Else a large text could not be put together again once its field has another name."""

    class Letter(Payload, frozen=True, kw_only=True):
        text: str
        blobs: dict[str, str] = {}  # noqa: RUF012 - msgspec copies it

    class Note(Payload, frozen=True, kw_only=True):
        body: str
        blobs: dict[str, str] = {}  # noqa: RUF012 - as above

    registry = Registry(
        [action("acme.letter", Letter, parts=("text",)), action("acme.letter", Note, version=2, parts=("body",))]
    )
    with pytest.raises(ValueError, match="renames it in `blobs` too"):
        Chain([Upcaster("action", "acme.letter", 1, Fields(renamed={"text": "body"}))]).check(registry)

    def moved(blobs: dict[str, str]) -> dict[str, str]:
        return {{"text": "body"}.get(name, name): digest for name, digest in blobs.items()}

    chain = Chain([Upcaster("action", "acme.letter", 1, Fields(renamed={"text": "body"}, changed={"blobs": moved}))])
    chain.check(registry)
    read = Codec(registry, chain).decode(event("acme.letter", b'{"text":"head","blobs":{"text":"ab"}}', 1))
    assert read == Note(body="head", blobs={"body": "ab"})


class Tally(Payload, frozen=True, kw_only=True):
    """`acme.tally`, in both of its versions."""

    title: str = ""
    counts: dict[int, int] = {}  # noqa: RUF012 - msgspec copies it


def _retitled(payload: dict[str, Any]) -> dict[str, Any]:
    payload["title"] = payload["title"].upper()
    return payload


def _of_any_shape(payload: dict[str, Any]) -> bool:
    return "counts" in payload


def _summed(payload: dict[str, Any]) -> dict[str, Any]:
    for name in payload["counts"]:
        payload["counts"][name] *= 2
    return payload


@pytest.mark.parametrize("upgrade", [unchanged, Fields(changed={"title": str.upper}), _retitled, _summed])
@pytest.mark.parametrize("when", [None, _of_any_shape])
def test_a_map_from_numbers_is_read_on_every_way(upgrade: Any, when: Any) -> None:
    """In JSON its names are texts: steps see those, and the payload has numbers again, upwards and back."""
    registry = Registry([action("acme.tally", Tally), action("acme.tally", Tally, version=2)])
    steps = [] if when is None else [Upcaster("action", "acme.tally", 1, upgrade, when=when)]
    steps.append(Upcaster("action", "acme.tally", 1, upgrade))
    found = Codec(registry, Chain(steps, [Downcaster("action", "acme.tally", 1, upgrade)]))
    for version in (1, 2):
        old = event("acme.tally", b'{"title":"a","counts":{"7":1}}', version)
        read = found.decode(old)
        assert isinstance(read, Tally), read.reason
        assert list(read.counts) == [7]
        shown = Presentation(found).show(old, Versions.of({"acme.tally": 1}), refuses=True)
        assert msgspec.json.decode(shown.payload, type=Tally).counts.keys() == {7}
