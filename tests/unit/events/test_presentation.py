"""How events are shown: current, in versions that a reader declares, or as they are stored."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from tests.golden.examples import golden_path
from tests.unit.events.test_kinds import event
from tests.unit.migrations.history import REGISTRY, codec

from chronicled.events import Event, Opaque, Payload, action
from chronicled.events.codec import Codec
from chronicled.events.envelope import Stored
from chronicled.events.errors import InvalidRequest, VersionUnavailable
from chronicled.events.presentation import Presentation
from chronicled.events.registry import Registry
from chronicled.events.versions import CURRENT, STORED, Versions
from chronicled.migrations.chain import Chain, Downcaster, Upcaster
from chronicled.migrations.fields import Fields

PRESENTATION = Presentation(codec())


class Noted(Payload, frozen=True, kw_only=True):
    """The first version."""

    text: str = ""
    more: str = ""


class Marked(Payload, frozen=True, kw_only=True):
    """The second one, without a field."""

    text: str = ""


def body(shown: Event) -> Any:
    """Return the payload as JSON values."""
    return msgspec.json.decode(shown.payload)


def golden(category: str, kind: str, version: int) -> Event:
    """Return an event with the golden payload of a kind's version."""
    spec = REGISTRY.find(category, kind, version)  # type: ignore[arg-type]  # a test's own word
    assert spec is not None
    return event(kind, golden_path(spec).read_bytes(), version, category)


def test_current_events_are_passed_on_as_they_are() -> None:
    """The very same objects come back: nobody pays for what is not old."""
    events = [golden("action", "run", 2), golden("observation", "run", 1)]
    assert PRESENTATION.show_all(events) is events
    assert PRESENTATION.show(events[0]) is events[0]


def test_an_old_event_is_shown_in_its_current_version() -> None:
    """Kind, version and payload are those of today, `stored` says what stands in the log, the rest stays."""
    old = event("acme.probe", b'{"target":"anvil"}', 1)
    shown = PRESENTATION.show(old)
    assert (shown.kind, shown.version, body(shown)) == ("acme.weigh", 2, {"scale": "anvil", "unit": "kg"})
    assert shown.stored == Stored("acme.probe", 1)
    assert (shown.position, shown.leaf, shown.id) == (old.position, old.leaf, old.id)


def test_as_stored_is_to_the_byte() -> None:
    """What the leaf binds is what is shown."""
    old = event("acme.probe", b'{ "target" : "anvil" }', 1)
    assert PRESENTATION.show(old, STORED) is old
    assert bytes(PRESENTATION.show_all([old], STORED)[0].payload) == bytes(old.payload)


@pytest.mark.parametrize(
    ("stored", "declared", "kind", "version", "payload"),
    [
        (event("acme.weigh", b'{"scale":"a"}', 2), {"acme.weigh": 1}, "acme.weigh", 1, {"target": "a", "unit": "kg"}),
        (event("acme.weigh", b'{"scale":"a"}', 2), {"acme.probe": 1}, "acme.probe", 1, {"target": "a"}),
        (event("acme.weigh", b'{"target":"a"}', 1), {"acme.probe": 1}, "acme.probe", 1, {"target": "a"}),
        (event("acme.probe", b'{"target":"a"}', 1), {"acme.probe": 1}, "acme.probe", 1, {"target": "a"}),
        (
            event("acme.probe", b'{"target":"a"}', 1), {"acme.weigh": 1}, "acme.weigh", 1,
            {"target": "a", "unit": "kg"},
        ),
        (event("acme.probe", b'{"target":"a"}', 1), {"acme.weigh": 9}, "acme.weigh", 2, {"scale": "a", "unit": "kg"}),
        (event("acme.probe", b'{"target":"a"}', 1), {"run": 1}, "acme.weigh", 2, {"scale": "a", "unit": "kg"}),
        (event("acme.sleep", b'{"duration":7}', 1), {"acme.sleep": 1}, "acme.sleep", 1, {"duration": 7}),
    ],
)  # fmt: skip
def test_a_reader_gets_the_newest_version_that_it_knows(
    stored: Event, declared: dict[str, int], kind: str, version: int, payload: dict[str, Any]
) -> None:
    """Migrated as far as it knows, brought back where it must be, as stored where that fits."""
    shown = PRESENTATION.show(stored, Versions.of(declared))
    assert (shown.kind, shown.version, body(shown)) == (kind, version, payload)
    assert (shown.stored is None) == ((kind, version) == (stored.kind, stored.version))


@pytest.mark.parametrize("kind", ["read", "run", "edit", "session_created", "generation_started", "session_closed"])
def test_our_own_kinds_are_brought_back(kind: str) -> None:
    """Every golden event of today can be shown in version 1, or says why it cannot."""
    versions = Versions.of({kind: 1})
    PRESENTATION.check(versions, 0)
    for spec in REGISTRY:
        if spec.kind == kind and golden_path(spec).exists():
            shown = PRESENTATION.show(golden(spec.category, kind, spec.version), versions, refuses=False)
            assert shown.version == 1 or shown.opaque is not None
            former = REGISTRY.find(spec.category, kind, 1)
            assert former is not None
            assert shown.opaque or msgspec.json.decode(shown.payload, type=former.payload)


def test_a_version_without_a_way_is_refused_by_name() -> None:
    """The kind, the version and the position are named; an answer that has begun shows it opaque instead."""
    newer, unable = event("acme.sleep", b'{"duration":1}', 2), event("acme.weigh", b'{"scale":"a","unit":"lb"}', 2)
    for stored, declared in ((newer, {"acme.sleep": 1}), (unable, {"acme.probe": 1})):
        with pytest.raises(VersionUnavailable) as raised:
            PRESENTATION.show_all([stored], Versions.of(declared))
        assert raised.value.extra["position"] == stored.position
        assert stored.kind in str(raised.value)
        (shown,) = PRESENTATION.show_all([stored], Versions.of(declared), refuses=False)
        assert shown.opaque is not None
        assert bytes(shown.payload) == bytes(stored.payload)
    with pytest.raises(VersionUnavailable, match=r"acme\.sleep"):
        PRESENTATION.check(Versions.of({"acme.sleep": 1}), 5)
    PRESENTATION.check(Versions.of({"acme.probe": 1, "run": 1, "acme.nobody": 3}), 5)


def test_what_cannot_be_read_is_shown_as_it_is() -> None:
    """With the reason; bytes that are no JSON stand in a string, so that the answer around them stays whole."""
    unknown = PRESENTATION.show(event("acme.lost", b'{"x":1}', 3))
    assert (unknown.kind, unknown.version, body(unknown), unknown.opaque) == (
        "acme.lost", 3, {"x": 1}, "the kind is not known here",
    )  # fmt: skip
    told: list[Opaque] = []
    PRESENTATION.codec.told = told.append
    for broken in (b'{"command":', b"\xff\xfe", b'{"command":"\xff"}', b"[" * 5000, b"1,2"):
        for versions in (CURRENT, STORED, Versions.of({"run": 1})):
            for version in (1, 2):
                (shown,) = PRESENTATION.show_all([event("run", broken, version)], versions)
                assert shown.opaque is not None
                assert base64.b64decode(body(shown)) == broken
                msgspec.json.decode(msgspec.json.encode(shown), type=Event)
    assert {opaque.why for opaque in told} == {"not_json", "misfit"}


def _unwritable(payload: dict[str, Any]) -> dict[str, Any]:
    return {"text": "\ud800"}


def _endless(payload: dict[str, Any]) -> dict[str, Any]:
    payload["text"] = payload
    return payload


def _leaving(payload: dict[str, Any]) -> dict[str, Any]:
    raise SystemExit(payload)


@pytest.mark.parametrize("step", [_unwritable, _endless, _leaving, Fields(renamed={"gone": "text"})])
def test_no_step_ends_a_read(step: Any) -> None:
    """Text that cannot be written, a payload within itself, a step that exits or fits no field: shown as stored."""
    kinds = (action("acme.mark", Noted), action("acme.mark", Marked, version=2))
    chain = Chain([Upcaster("action", "acme.mark", 1, step)], [Downcaster("action", "acme.mark", 1, step)])
    presentation = Presentation(Codec(Registry(kinds), chain))
    old = event("acme.mark", b'{"text":"a","more":"b"}', 1)
    for versions in (CURRENT, Versions.of({"acme.mark": 2})):
        shown = presentation.show_all([old], versions)[0]
        assert (shown.opaque is not None, bytes(shown.payload)) == (True, bytes(old.payload))
    assert presentation.show_all([old], STORED)[0] is old
    new = event("acme.mark", b'{"text":"a"}', 2)
    assert presentation.show_all([new])[0] is new
    if not isinstance(step, Fields):
        with pytest.raises(VersionUnavailable):
            presentation.show(new, Versions.of({"acme.mark": 1}))


def test_a_kind_is_found_under_all_of_its_names_and_nothing_else_is() -> None:
    """What a former name stands for by now decides, and where its payload says so, the payload."""
    asked, marked = event("acme.say", b'{"question":"why?"}', 1), event("acme.say", b'{"text":"so"}', 1)
    now = event("acme.ask", b'{"question":"how?"}', 1)
    events = [asked, marked, now]
    assert [each.kind for each in PRESENTATION.show_all(events, CURRENT, frozenset({"acme.ask"}))] == ["acme.ask"] * 2
    assert PRESENTATION.show_all(events, STORED, frozenset({"acme.ask"})) == [asked, now]
    assert len(PRESENTATION.show_all(events, CURRENT, frozenset({"acme.say"}))) == 3


@pytest.mark.parametrize("text", ["", "run", "run=0", "run=x", "stored, run=1", "RUN=1", "run=1;read=2", "run = 1"])
def test_versions_that_say_nothing_are_refused(text: str) -> None:
    """A caller that declares something else than it means is told so."""
    with pytest.raises(InvalidRequest):
        Versions.parse(text)


def test_versions_are_read_as_they_are_written() -> None:
    """What a client sends is what the daemon understands; of two versions of a kind the lower counts."""
    for versions in (STORED, Versions.of({"run": 1, "acme.probe": 12})):
        assert Versions.parse(str(versions)) == versions
    assert Versions.of({}) == CURRENT
    assert Versions.parse("run=3, run=1") == Versions.of({"run": 1})
