"""What may become of an event's bytes on a bad disk, or by somebody's hand: one random change, told by its seed."""

from __future__ import annotations

import random
from typing import Any, Final, cast

import msgspec
from tests.golden.examples import KINDS

from chronicled.events.envelope import Category, Event

__all__ = ["Known", "mutated", "originals"]

Known = tuple[Category, str, int, bytes]
"""Category, kind, version and stored bytes of a valid event."""

ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 2**63, 2**200, 1.5, 1e308, "", "x", "\x00", "\ud7ff", "é" * 9, [], {}, [[]], {"": None},
    [None] * 3, {"kind": "run"}, "2026-01-01", "0" * 64, -(2**64), "NaN",
)  # fmt: skip


def originals() -> list[Known]:
    """Return category, kind, version and stored bytes of every golden event."""
    found: list[Known] = []
    for path in sorted(KINDS.glob("*.json")):
        category, kind, version = path.stem.split(".")
        found.append((category, kind, int(version), path.read_bytes()))  # type: ignore[arg-type]  # it is one by its name
    return found


def mutated(seed: int, known: list[Known], position: int = 1) -> Event:
    """Return a valid event after the change of that seed: to its bytes, to a value in them, or to its label."""
    chance = random.Random(seed)
    category, kind, version, payload = chance.choice(known)
    change = chance.randrange(12)
    if change == 0:
        payload = _bytes(chance, payload)
    elif change == 1:
        payload = payload[: chance.randrange(len(payload))]
    elif change == 2:
        payload = chance.randbytes(chance.randrange(40))
    elif change == 3:
        version = chance.choice((0, version - 1, version + 1, 99, 2**31))
    elif change == 4:
        kind = chance.choice((kind + "_", "acme.probe", "a", chance.choice(known)[1]))
    elif change == 5:
        payload = chance.choice((b"null", b"[]", b"7", b'""', b"{}", b"[" * 3000, b"{" * 3000, b"{}{}", b"1,2"))
    else:
        payload = msgspec.json.encode(_value(chance, msgspec.json.decode(payload)))
    id, cause = _id(position), _id(max(1, position - chance.randrange(4)))
    return Event(
        position, "default", "mutated", position - 1, id, kind, version, category, "main", "worker", "uid:0",
        "2026-01-01T00:00:00.000000Z", msgspec.Raw(payload), "00" * 32, cause,
    )  # fmt: skip


def _id(position: int) -> str:
    return f"01900000-0000-7000-8000-{position:012d}"


def _bytes(chance: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(chance.randrange(1, 4)):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _value(chance: random.Random, value: Any) -> Any:
    """Return the value with one thing in it changed, at any depth."""
    if not isinstance(value, dict | list):
        return _leaf(chance, value) if chance.random() < 0.7 else chance.choice(ODD)
    if not value or chance.random() < 0.2:
        return chance.choice(ODD)
    if isinstance(value, dict):
        known = dict(cast("dict[str, Any]", value))
        name = chance.choice(list(known))
        match chance.randrange(4):
            case 0:
                del known[name]
            case 1:
                known[chance.choice(("new", name + "_", "blobs", "outcome"))] = chance.choice(ODD)
            case _:
                known[name] = _value(chance, known[name])
        return known
    items: list[Any] = [*value]
    index = chance.randrange(len(items))
    items[index] = _value(chance, items[index])
    return items


def _leaf(chance: random.Random, value: Any) -> Any:
    match value:
        case bool():
            return not value
        case str():
            return chance.choice(("", value + chance.choice("x\x00é\U0001f600"), value[1:], value * 50))
        case int() | float():
            return chance.choice((value + 1, -value, value * 1000))
        case _:
            return value
