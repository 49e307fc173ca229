"""A unit whose code does not end: a step, a way back, a policy and a rule."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from beta.kinds import KINDS as DOING
from chronicled.events import Payload, action
from chronicled.events.policy import Decision, PolicyRequest
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.chain import Downcaster, Upcaster
from chronicled.migrations.unit import Unit


class Spin(Payload, frozen=True, kw_only=True):
    """`how` says how it does not end."""

    how: str


def _spin(payload: dict[str, Any]) -> dict[str, Any]:
    _note("step")
    match payload["how"]:
        case "sleeps":
            time.sleep(3600)
        case "swallows":
            _swallow()
        case "stays":
            _stay()
        case _:
            while payload["how"] == "loops":
                pass
    return payload


def _note(word: str) -> None:
    if calls := os.environ.get("BETA_CALLS"):
        with Path(calls).open("a") as file:
            file.write(f"{word}\n")


def _swallow() -> None:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def _stay() -> None:
    while True:
        try:
            time.sleep(0.001)
        except BaseException:
            continue


def _spin_back(payload: dict[str, Any]) -> dict[str, Any]:
    _note("back")
    while payload["how"] == "back":
        pass
    return payload


async def decide(request: PolicyRequest) -> Decision:
    """Say yes, if anything."""
    if request.kind == "run" and getattr(request.payload, "command", "") == "judge me for ever":
        while True:
            pass
    return Decision.allow()


KINDS = (action("beta.spin", Spin), action("beta.spin", Spin, version=2), action("beta.mark", Spin), *DOING)
FORMER = Unit(name="beta", kinds=KINDS[:1])
UNIT = Unit(
    name="beta",
    kinds=KINDS,
    upcasters=(Upcaster("action", "beta.spin", 1, _spin),),
    downcasters=(Downcaster("action", "beta.spin", 1, _spin_back),),
    redaction=(RedactionRule(name="beta.endless", pattern=r"(?:a|aa)+!", length_max=100),),
    policy="beta.stuck:decide",
    executors=("beta.executor:Executor",),
)
