"""The schema lock and the chain of upcasters."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.events.test_kinds import event

from chronicled.events import Codec, KindSpec, Opaque, Payload, Registry, action, builtin_registry
from chronicled.migrations.builtin import builtin_chain
from chronicled.migrations.chain import Chain, Upcaster
from chronicled.migrations.lock import fingerprint, lock_of, locked, problems


class Old(Payload, frozen=True, kw_only=True):
    """Version 1."""

    text: str


class New(Payload, frozen=True, kw_only=True):
    """Version 2."""

    lines: list[str]


def test_the_code_matches_the_lock() -> None:
    """No kind's schema changed without a new version and an upcaster."""
    assert problems(builtin_registry(), locked()) == []


def test_a_changed_missing_or_new_schema_is_a_problem() -> None:
    """Negative control: each of the three differences is found and named."""
    specs = [action("acme.note", Old)]
    lock = lock_of(specs)
    assert problems(specs, lock) == []
    assert "has changed" in problems([KindSpec("action", "acme.note", 1, New)], lock)[0]
    assert "not in the code" in problems([], lock)[0]
    assert "not in the lock" in problems(specs, {})[0]


def test_a_fingerprint_ignores_prose_but_not_flags() -> None:
    """Docstrings may be improved; whether a kind is runnable may not change."""

    class Undocumented(Payload, frozen=True, kw_only=True):
        text: str

    Undocumented.__name__ = "Old"
    assert fingerprint(action("acme.note", Old)) != fingerprint(action("acme.note", Old, runnable=True))
    assert fingerprint(action("acme.note", Old)) == fingerprint(action("acme.note", Undocumented))


def upgrade(payload: dict[str, Any]) -> dict[str, Any]:
    """Split the text into lines."""
    return {"lines": payload["text"].split("\n")}


def test_old_payloads_are_brought_to_the_current_version_on_read() -> None:
    """Stored bytes stay; the reader gets the current struct, or `Opaque` where the upcaster fails."""
    registry = Registry([action("acme.note", Old), action("acme.note", New, version=2)])
    chain = Chain([Upcaster("action", "acme.note", 1, upgrade)])
    chain.check(registry)
    codec = Codec(registry, chain)
    assert codec.decode(event("acme.note", b'{"text":"a\\nb"}', 1)) == New(lines=["a", "b"])
    assert codec.decode(event("acme.note", b'{"lines":["a"]}', 2)) == New(lines=["a"])
    assert isinstance(codec.decode(event("acme.note", b'{"no":1}', 1)), Opaque)
    assert isinstance(Codec(registry).decode(event("acme.note", b'{"text":"a"}', 1)), Opaque)


def test_a_chain_with_a_gap_or_a_stray_step_is_refused() -> None:
    """A kind without a path to its current version cannot be used."""
    registry = Registry([action("acme.note", Old), action("acme.note", New, version=2)])
    with pytest.raises(ValueError, match="no upcaster from version 1"):
        Chain().check(registry)
    with pytest.raises(ValueError, match="no old version"):
        Chain([Upcaster("action", "acme.note", 1, upgrade), Upcaster("action", "acme.note", 2, upgrade)]).check(
            registry
        )
    with pytest.raises(ValueError, match="two upcasters"):
        Chain([Upcaster("action", "acme.note", 1, upgrade)] * 2)
    builtin_chain().check(builtin_registry())
