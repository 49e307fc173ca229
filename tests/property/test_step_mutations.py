"""Random changes of events that have a history of every sort: our own kinds have had none but harmless steps so far."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from tests.property.mutations import Known, mutated
from tests.unit.migrations import history
from tests.unit.migrations.plain_steps import CALLED, FOLLOWED, New, Old

from chronicled.events import Codec, Opaque, Registry, action
from chronicled.events.presentation import Presentation
from chronicled.events.versions import CURRENT, Versions
from chronicled.migrations.chain import Chain, Downcaster, Upcaster

SEEDS = 10_000
STEPS = (*FOLLOWED, *CALLED)


def known() -> list[Known]:
    """Return valid events of every former version, in many shapes."""
    olds = (
        Old(name="a"),
        Old(name="é\n", number=11, share=-0.5, flag=True, tags=["b", "x"], inner={"1": 2}, note="n"),
        Old(name="12", number=3, tags=[], note=""),
    )
    found: list[Known] = [
        ("action", "acme.sleep", 1, b'{"duration":1500}'),
        ("action", "acme.probe", 1, b'{"target":"anvil"}'),
        ("action", "acme.weigh", 1, b'{"target":"anvil","unit":"lb"}'),
        ("action", "acme.say", 1, b'{"text":"so","question":null}'),
        ("action", "acme.say", 1, b'{"text":null,"question":"why?"}'),
        ("observation", "acme.probe", 1, b'{"outcome":"ok","effects":"complete","grams":7}'),
    ]
    for number, old in itertools.product(range(len(STEPS)), olds):
        found.append(("action", f"acme.step_{number}", 1, msgspec.json.encode(old)))
    return found


def codec() -> Codec:
    """Return a codec of the history's kinds, and of one kind for each way in which people write a step."""
    specs, upcasters = list(history.SPECS), list(history.UP)
    downcasters = list(history.DOWN)
    for number, step in enumerate(STEPS):
        kind = f"acme.step_{number}"
        specs += [action(kind, Old), action(kind, New, version=2)]
        upcasters.append(Upcaster("action", kind, 1, step))
        downcasters.append(Downcaster("action", kind, 1, _back))
    registry, chain = Registry(specs), Chain(upcasters, downcasters)
    registry.check()
    chain.check(registry)
    return Codec(registry, chain)


def _back(payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": payload["title"], "number": payload["number"] // payload["number"]}


def each_seed() -> Iterator[tuple[int, Any]]:
    """Yield all changes with their seeds."""
    originals = known()
    for seed in range(SEEDS):
        yield seed, mutated(seed, originals)


def test_ten_thousand_changes_of_former_events_are_typed_or_opaque() -> None:
    """Whatever a step meets or makes: the current struct of its type, or the bytes as they are, with a reason."""
    reading, opaque = codec(), 0
    for seed, event in each_seed():
        read = reading.read(event)
        if isinstance(read, Opaque):
            opaque += 1
            assert (read.kind, read.version, read.payload) == (event.kind, event.version, bytes(event.payload)), seed
            continue
        spec, payload = read
        assert type(payload) is spec.payload, seed
        assert reading.registry.find_current(spec.category, spec.kind) is spec, seed
        # No field holds what its type does not allow.
        plain = msgspec.to_builtins(payload, str_keys=True)
        assert msgspec.convert(plain, spec.payload, str_keys=True) == payload, seed
    assert SEEDS // 10 < opaque < SEEDS * 9 // 10, "changes that are all of one sort would show nothing"


def test_ten_thousand_changes_of_former_events_are_shown() -> None:
    """As of today and as of then, where there is a way back: an event that can be encoded, always."""
    presentation = Presentation(codec())
    kinds = {kind for _, kind, _, _ in known()} | {"acme.weigh", "acme.ask", "acme.mark"}
    readers: tuple[Versions, ...] = (CURRENT, Versions.of(dict.fromkeys(kinds, 1)))
    show: Callable[..., Any] = presentation.show_all
    for seed, event in each_seed():
        for reader in readers:
            (shown,) = show([event], reader, refuses=False)
            assert msgspec.json.decode(msgspec.json.encode(shown))["position"] == event.position, seed
