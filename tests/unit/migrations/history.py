"""A vocabulary with a history of every sort: renamed, told apart by shape, changed in meaning, brought back."""

from __future__ import annotations

from typing import Any

from chronicled.events import Codec, KindSpec, Payload, Registry, TerminalPayload, action, observation
from chronicled.events.kinds import BUILTIN
from chronicled.migrations.builtin import DOWNCASTERS, UPCASTERS
from chronicled.migrations.chain import Chain, Downcaster, Upcaster
from chronicled.migrations.fields import Fields
from chronicled.migrations.unit import Unit

__all__ = ["CHAIN", "REGISTRY", "UNIT", "Asked", "Ended", "Heavy", "Mark", "Probe", "Sleep", "Weigh", "codec"]


class Sleep(Payload, frozen=True, kw_only=True):
    """`acme.sleep` 1 and 2: the same schema, but milliseconds became seconds."""

    duration: float


class Probe(Payload, frozen=True, kw_only=True):
    """`acme.probe` 1, which is called `acme.weigh` from its next version on."""

    target: str


class Weigh(Payload, frozen=True, kw_only=True):
    """`acme.weigh` 1."""

    target: str
    unit: str = "kg"


class Heavy(Payload, frozen=True, kw_only=True):
    """`acme.weigh` 2."""

    scale: str
    unit: str = "kg"


class Ended(TerminalPayload, frozen=True, kw_only=True):
    """What ends both."""

    grams: int = 0


class Said(Payload, frozen=True, kw_only=True):
    """`acme.say` 1: once a question, once a remark; the name had two meanings."""

    text: str | None = None
    question: str | None = None


class Asked(Payload, frozen=True, kw_only=True):
    """`acme.ask` 1."""

    question: str


class Mark(Payload, frozen=True, kw_only=True):
    """`acme.mark` 1."""

    text: str


SPECS: tuple[KindSpec, ...] = (
    action("acme.sleep", Sleep),
    action("acme.sleep", Sleep, version=2),
    action("acme.probe", Probe, runnable=True, becomes=(("acme.weigh", 1),)),
    action("acme.weigh", Weigh, runnable=True),
    action("acme.weigh", Heavy, version=2, runnable=True),
    observation("acme.probe", Ended, terminal=True, becomes=(("acme.weigh", 1),)),
    observation("acme.weigh", Ended, terminal=True),
    action("acme.say", Said, becomes=(("acme.ask", 1), ("acme.mark", 1))),
    action("acme.ask", Asked),
    action("acme.mark", Mark),
)


def _slower(payload: dict[str, Any]) -> dict[str, Any]:
    return {"duration": payload["duration"] / 1000}


def _question(payload: dict[str, Any]) -> dict[str, Any]:
    return {"question": payload["question"]}


def _text(payload: dict[str, Any]) -> dict[str, Any]:
    return {"text": payload.get("text") or ""}


def _asks(payload: dict[str, Any]) -> bool:
    return payload.get("question") is not None


def _kilograms(payload: dict[str, Any]) -> dict[str, Any]:
    if payload.pop("unit", "kg") != "kg":
        raise ValueError("it was always kilograms")
    return payload


UP: tuple[Upcaster, ...] = (
    Upcaster("action", "acme.sleep", 1, _slower),
    Upcaster("action", "acme.probe", 1, Fields(), becomes=("acme.weigh", 1)),
    Upcaster("action", "acme.weigh", 1, Fields(renamed={"target": "scale"})),
    Upcaster("observation", "acme.probe", 1, Fields(), becomes=("acme.weigh", 1)),
    Upcaster("action", "acme.say", 1, _question, becomes=("acme.ask", 1), when=_asks),
    Upcaster("action", "acme.say", 1, _text, becomes=("acme.mark", 1)),
)
DOWN: tuple[Downcaster, ...] = (
    Downcaster("action", "acme.weigh", 1, Fields(renamed={"scale": "target"})),
    Downcaster("action", "acme.probe", 1, _kilograms, above=("acme.weigh", 1)),
    Downcaster("observation", "acme.probe", 1, Fields(), above=("acme.weigh", 1)),
)

UNIT = Unit(name="acme", kinds=SPECS, upcasters=UP, downcasters=DOWN)

REGISTRY = Registry([*BUILTIN, *SPECS])
CHAIN = Chain([*UPCASTERS, *UP], [*DOWNCASTERS, *DOWN])
REGISTRY.check()
CHAIN.check(REGISTRY)


def codec() -> Codec:
    """Return a codec of it."""
    return Codec(REGISTRY, CHAIN)
