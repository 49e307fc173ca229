"""Every step between versions holds what it promises, for any payload: one property a step, made from its types."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.unit.events.test_kinds import event

from chronicled.daemon.units.conformance import payloads as made
from chronicled.events import Codec, KindSpec, Opaque, Payload, Registry, action
from chronicled.migrations.builtin import DOWNCASTERS, UPCASTERS
from chronicled.migrations.chain import Chain, Downcaster, Upcaster
from chronicled.migrations.vocabulary import vocabulary

REGISTRY, CHAIN = vocabulary()
CODEC = Codec(REGISTRY, CHAIN)
FORMER = [spec for spec in REGISTRY if REGISTRY.find_current(*spec.key) is not spec]
settings.register_profile(
    "steps", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
STEPS = settings.get_profile("steps")


def payloads(kind: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """Return any valid payload of the struct, with all of its fields as they are stored, or the least of them."""

    def fitting(value: dict[str, Any]) -> bool:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:  # fields that exclude each other
            return False
        return True

    values = st.one_of(made.payloads(kind), made.payloads(kind, required=True)).filter(fitting)
    return values.map(lambda value: msgspec.convert(value, kind))


def holds_upwards(codec: Codec, spec: KindSpec, payload: msgspec.Struct) -> None:
    """Check that a payload of a former version is read as the current one, the same by whole path and by steps."""
    stored = msgspec.json.encode(payload)
    read = codec.read(event(spec.kind, stored, spec.version, spec.category))
    assert not isinstance(read, Opaque), f"{spec.key}: {read.reason}"
    current, migrated = read
    assert type(migrated) is current.payload
    assert codec.upcasters is not None
    kind, version, value = spec.kind, spec.version, msgspec.json.decode(stored)
    while codec.registry.following(codec.registry.find(spec.category, kind, version) or current):
        kind, version, value = codec.upcasters.upcast(spec.category, kind, version, value, 1)
        # Valid at every stop on the way.
        between = codec.registry.find(spec.category, kind, version)
        assert between is not None
        msgspec.convert(value, between.payload)
    assert (kind, version) == (current.kind, current.version)
    assert msgspec.convert(value, current.payload) == migrated


def holds_downwards(chain: Chain, registry: Registry, back: Downcaster, payload: msgspec.Struct) -> None:
    """Check that a payload is brought back to a valid one of the former version, or refused with a reason."""
    kind, version = back.above or (back.kind, back.version + 1)
    value: Any = msgspec.json.decode(msgspec.json.encode(payload))
    try:
        found = chain.downcast(back.category, kind, version, value)
    except ValueError:
        return  # it says that the former version cannot tell this
    assert found[:2] == (back.kind, back.version)
    former = registry.find(back.category, back.kind, back.version)
    assert former is not None
    msgspec.convert(found[2], former.payload)


@pytest.mark.parametrize("spec", FORMER, ids=lambda spec: f"{spec.category}-{spec.kind}-{spec.version}")
def test_every_former_payload_becomes_a_current_one(spec: KindSpec) -> None:
    """Upcasters are total: no valid payload of any former version is ever opaque."""

    @STEPS
    @given(payloads(spec.payload))
    def holds(payload: msgspec.Struct) -> None:
        holds_upwards(CODEC, spec, payload)

    holds()


@pytest.mark.parametrize("back", DOWNCASTERS, ids=lambda back: f"{back.category}-{back.kind}-{back.version}")
def test_every_current_payload_is_brought_back_or_refused(back: Downcaster) -> None:
    """Downcasters give a valid former payload, or say what the former version cannot tell."""
    kind, version = back.above or (back.kind, back.version + 1)
    spec = REGISTRY.find(back.category, kind, version)
    assert spec is not None

    @STEPS
    @given(payloads(spec.payload))
    def holds(payload: msgspec.Struct) -> None:
        holds_downwards(CHAIN, REGISTRY, back, payload)

    holds()


def test_every_step_of_ours_has_a_property() -> None:
    """No version is left out of these tests."""
    assert {(step.category, step.kind, step.version) for step in UPCASTERS} == {spec.key for spec in FORMER}


class Old(Payload, frozen=True, kw_only=True):
    """Version 1."""

    share: int


class New(Payload, frozen=True, kw_only=True):
    """Version 2."""

    part: float


def _partial(payload: dict[str, Any]) -> dict[str, Any]:
    return {"part": 1 / (payload["share"] - 7)}


def _wrong(payload: dict[str, Any]) -> dict[str, Any]:
    return {"part": "half" if payload["share"] < 0 else 0.5}


@pytest.mark.parametrize("upgrade", [_partial, _wrong])
def test_a_step_that_is_not_total_is_found(upgrade: Any) -> None:
    """Negative control: a step that fails for one value, or makes what does not fit for some, does not pass."""
    registry = Registry([action("acme.share", Old), action("acme.share", New, version=2)])
    codec = Codec(registry, Chain([Upcaster("action", "acme.share", 1, upgrade)]))
    spec = registry.find("action", "acme.share", 1)
    assert spec is not None

    @settings(STEPS, phases=[Phase.generate], database=None)
    @given(st.one_of(payloads(Old), st.builds(Old, share=st.integers(-9, 9))))
    def holds(payload: msgspec.Struct) -> None:
        holds_upwards(codec, spec, payload)

    with pytest.raises(AssertionError, match=r"acme\.share"):
        holds()
