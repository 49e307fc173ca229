"""The built-in kinds: golden bytes, registry rules, codec limits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.golden.examples import example, golden_path

from chronicled.events import Codec, Event, KindSpec, Opaque, Payload, Registry, action, builtin_registry, observation
from chronicled.events.errors import InvalidPayload, PayloadTooLarge, UnknownKind
from chronicled.events.kind import TerminalPayload
from chronicled.events.kinds import BUILTIN
from chronicled.events.kinds.actions import Run
from chronicled.migrations.builtin import builtin_chain


def event(
    kind: str = "run", payload: bytes = b'{"command":"true"}', version: int = 1, category: Any = "action"
) -> Event:
    """Make an event as a store would."""
    return Event(
        1, "t", "s", 0, "id", kind, version, category, "main", "client", "uid:0", "2026-01-01T00:00:00.000000Z",
        msgspec.Raw(payload), "00" * 32,
    )  # fmt: skip


@pytest.mark.parametrize("spec", BUILTIN, ids=lambda spec: f"{spec.category}-{spec.kind}-{spec.version}")
def test_golden_bytes_of_each_kind_are_what_the_code_writes_and_reads(spec: KindSpec) -> None:
    """Bytes that an earlier commit wrote decode to the same payload, which encodes to the same bytes."""
    golden = golden_path(spec).read_bytes()
    payload = example(spec)
    assert msgspec.json.encode(payload) == golden
    assert msgspec.json.decode(golden, type=spec.payload) == payload
    registry = builtin_registry()
    current = registry.current(spec.category, spec.kind)
    decoded = Codec(registry, builtin_chain()).decode(event(spec.kind, golden, spec.version, spec.category))
    assert type(decoded) is current.payload
    assert spec is not current or decoded == payload


def test_runnable_kinds_are_the_vocabulary_of_the_seeds() -> None:
    """Exactly the kinds that go to a sandbox are runnable, and each has its terminal observation."""
    runnable = {spec.kind for spec in BUILTIN if spec.runnable}
    assert runnable == {
        "run", "run_ipython", "read", "write", "edit", "browse", "browse_interactive", "call_tool_mcp",
        "list", "upload", "download", "git",
    }  # fmt: skip
    assert {spec.kind for spec in BUILTIN if spec.terminal} == runnable


def test_payloads_are_written_with_their_defaults() -> None:
    """A later change of a default cannot change what an old event meant."""
    assert set(msgspec.json.decode(msgspec.json.encode(Run(command="x")))) == set(Run.__struct_fields__)


class Probe(Payload, frozen=True, kw_only=True):
    """A third party's action."""

    depth: int


class ProbeObservation(TerminalPayload, frozen=True, kw_only=True):
    """A third party's observation."""

    found: bool = False


def test_registry_takes_third_party_kinds_and_refuses_broken_ones() -> None:
    """Versions have no gap, no kind comes twice, and a runnable action needs its terminal observation."""
    registry = Registry(BUILTIN)
    registry.register(action("acme.probe", Probe, runnable=True))
    with pytest.raises(ValueError, match="needs a terminal observation"):
        registry.check()
    registry.register(observation("acme.probe", ProbeObservation, terminal=True))
    registry.check()
    with pytest.raises(ValueError, match="does not follow"):
        registry.register(action("acme.probe", Probe, version=3))
    with pytest.raises(ValueError, match="does not follow"):
        registry.register(action("acme.probe", Probe, version=1))
    with pytest.raises(ValueError, match="TerminalPayload"):
        registry.register(observation("acme.other", Probe, terminal=True))
    with pytest.raises(UnknownKind, match=r"acme\.nothing"):
        registry.current("action", "acme.nothing")


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b'{"command":1}', r"Expected `str | null`, got `int` - at `\$.command`"),
        (b"{}", "either `command`"),
        (b'{"command":"x","typo":1}', "unknown field `typo`"),
        (b'{"command":"x","timeout_seconds":-1}', "timeout_seconds"),
        (b'{"command":"x","environment":{"A=B":"1"}}', "environment"),
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b"[" * 100_000, "recursion|malformed|Expected"),
    ],
)
def test_a_bad_payload_is_refused_with_its_reason(payload: bytes, says: str) -> None:
    """What does not fit is refused with a sentence that names the field."""
    with pytest.raises(InvalidPayload, match=says):
        Codec(builtin_registry()).validate(builtin_registry().current("action", "run"), payload)


def test_an_oversized_payload_is_refused_before_and_after_encoding() -> None:
    """The limit holds for bytes that come in and for structs that are encoded here."""
    codec = Codec(builtin_registry(), payload_bytes_max=400)
    spec = codec.registry.current("action", "run")
    with pytest.raises(PayloadTooLarge, match="400 are allowed"):
        codec.validate(spec, b'{"command":"' + b"x" * 400 + b'"}')
    with pytest.raises(PayloadTooLarge):
        codec.encode("t", "s", spec, Run(command="x" * 400))


def test_a_lone_surrogate_is_bad_input_not_a_crash() -> None:
    """Text that UTF-8 cannot carry is refused as an invalid payload."""
    codec = Codec(builtin_registry())
    with pytest.raises(InvalidPayload, match="not valid Unicode"):
        codec.encode("t", "s", codec.registry.current("action", "run"), Run(command="\ud800"))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (event(kind="acme.unknown"), "not known"),
        (event(payload=b'{"command":7}'), "does not fit"),
        (event(payload=b"\x00\xff"), "is not JSON"),
        (event(version=9), "newer than version 2"),
    ],
)
def test_what_cannot_be_read_becomes_opaque(broken: Event, reason: str) -> None:
    """An unknown kind, a broken payload or a newer version is kept whole, with the reason; decoding never raises."""
    opaque = Codec(builtin_registry(), builtin_chain()).decode(broken)
    assert isinstance(opaque, Opaque)
    assert reason in opaque.reason
    assert opaque.payload == bytes(broken.payload)


class Upper:
    """A redaction that replaces one value."""

    def payload(self, tenant: str, session: str, payload: bytes) -> bytes:
        """Replace the secret."""
        return payload.replace(b"hunter2", b"<secret>")

    def active(self, tenant: str, session: str) -> bool:
        """Redact every session."""
        return True

    def text(self, tenant: str, session: str, text: str) -> str:
        """Not used here."""
        raise AssertionError

    def fragment(self, tenant: str, session: str, data: bytes, *, head: bool, tail: bool) -> bytes:
        """Not used here."""
        raise AssertionError

    def stream(self, tenant: str, session: str, *, keep_length: bool = False) -> Any:
        """Never asked here."""
        raise AssertionError


def test_redaction_comes_before_anything_is_stored() -> None:
    """The draft that goes to the store holds the redacted bytes."""
    codec = Codec(builtin_registry(), redaction=Upper())
    draft = codec.draft("action", "run", Run(command="echo hunter2"), tenant="t", session="s", id="i")
    assert b"hunter2" not in draft.payload
    assert b"echo <secret>" in draft.payload
