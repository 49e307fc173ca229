"""What is remembered of kinds: enough to serve a log while a unit is not loaded, and never in the way."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from chronicled.daemon.units.loading import Broken, Loaded, LoadedUnits
from chronicled.daemon.units.memory import KindMemory
from chronicled.events import Codec, Event, Opaque, Outcome, Payload, TerminalPayload, action, observation
from chronicled.events.errors import InvalidPayload
from chronicled.events.kinds.runnable import Runnable
from chronicled.migrations.chain import Upcaster, unchanged
from chronicled.migrations.unit import Unit
from chronicled.migrations.vocabulary import vocabulary


class Do(Runnable, frozen=True, kw_only=True):
    """An action."""


class Done(TerminalPayload, frozen=True, kw_only=True):
    """Its end."""

    count: int = 0


class Note(Payload, frozen=True, kw_only=True):
    """Only recorded."""


KINDS = (
    action("acme.do", Do, runnable=True),
    action("acme.do", Do, version=2, runnable=True),
    action("acme.note", Note),
    observation("acme.do", Done, terminal=True),
)
UNIT = Unit(name="acme", kinds=KINDS, upcasters=(Upcaster("action", "acme.do", 1, unchanged),))
LOADED = Loaded("acme", "acme_unit:UNIT", UNIT, None)
GUARD = Loaded("guard", "guard:UNIT", Unit(name="guard", policy="guard:decide"), None)


def event(kind: str, category: str, payload: bytes, version: int = 1) -> Event:
    """Return an event as it is read from the log."""
    fields = ("2026-01-01T00:00:00.000000Z", msgspec.Raw(payload), "00" * 32, None, None)
    return Event(1, "default", "s", 0, "id", kind, version, category, "main", "client", "a", *fields)  # type: ignore[arg-type]  # a category is a word here


@pytest.fixture
def memory(tmp_path: Path) -> KindMemory:
    """What was kept when both units were loaded."""
    found = KindMemory(str(tmp_path))
    found.keep([LOADED, GUARD])
    return found


def test_kinds_of_a_unit_that_is_gone_stand_in(memory: KindMemory) -> None:
    """Its actions are runnable still, and unreadable with the reason; ends of them are told, and old ones are read."""
    registry, chain = vocabulary()
    memory.stand_in(registry, LoadedUnits((), (Broken("acme", "it is broken like this"),)))
    codec = Codec(registry, chain)
    spec = registry.current("action", "acme.do")
    assert (spec.version, spec.runnable, registry.current("action", "acme.note").runnable) == (2, True, False)
    for version in (1, 2):
        opaque = codec.decode(event("acme.do", "action", b"{}", version))
        assert isinstance(opaque, Opaque)
    assert "it is broken like this" in opaque.reason
    with pytest.raises(InvalidPayload, match="it is broken like this"):
        codec.validate(spec, b'{"any": 1}')
    end = codec.decode(event("acme.do", "observation", b'{"outcome":"ok","effects":"complete","count":3}'))
    assert end.outcome is Outcome.OK


def test_a_unit_that_is_loaded_needs_no_stand_in(memory: KindMemory) -> None:
    """What is loaded counts, whatever was remembered."""
    registry, _ = vocabulary([UNIT])
    size = len(registry)
    memory.stand_in(registry, LoadedUnits((LOADED, GUARD)))
    assert len(registry) == size


def test_a_unit_that_was_taken_out_is_told_apart_from_a_broken_one(memory: KindMemory) -> None:
    """Nobody has asked for it: that is the reason then."""
    registry, _ = vocabulary()
    memory.stand_in(registry, LoadedUnits())
    with pytest.raises(InvalidPayload, match="the unit 'acme' is not loaded"):
        Codec(registry).validate(registry.current("action", "acme.do"), b"{}")


def test_a_broken_unit_with_a_policy_is_known(memory: KindMemory) -> None:
    """It was loaded before, so that it is known that it had one."""
    broken = (Broken("acme", "why"), Broken("guard", "why"), Broken("other", "why"))
    assert memory.guarding(LoadedUnits((), broken)) == [Broken("guard", "why")]


@pytest.mark.parametrize("text", ["", "[]", '{"acme": 1}', '{"acme": {"asked": "acme", "kinds": [{"kind": "x"}]}}'])
def test_a_file_that_is_damaged_counts_for_nothing(memory: KindMemory, tmp_path: Path, text: str) -> None:
    """It has no authority: whatever is in it, the daemon starts, and writes it again."""
    (tmp_path / "units.json").write_text(text)
    registry, _ = vocabulary()
    size = len(registry)
    memory.stand_in(registry, LoadedUnits())
    assert len(registry) == size
    memory.keep([LOADED])
    memory.stand_in(registry, LoadedUnits())
    assert len(registry) > size
