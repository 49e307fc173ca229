"""The unit, and some that are wrong."""

from __future__ import annotations

from beta.kinds import KINDS, VERSIONS
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.chain import Upcaster, unchanged
from chronicled.migrations.unit import Unit

UPCASTERS = (Upcaster("action", "beta.do", 1, unchanged),) if VERSIONS > 1 else ()
RULE = RedactionRule(name="beta.key", pattern=r"beta-key-[0-9]+", length_max=40)

UNIT = Unit(
    name="beta", kinds=KINDS, upcasters=UPCASTERS, executors=("beta.executor:Executor",), redaction=(RULE,),
    policy="beta.guard:decide",
)  # fmt: skip
THREADED = Unit(
    name="beta", kinds=KINDS, upcasters=UPCASTERS, executors=("beta.executor:Executor",),
    policy="beta.guard:decide_in_a_thread",
)  # fmt: skip
LOST = Unit(
    name="beta", kinds=KINDS, upcasters=UPCASTERS, executors=("beta.executor:Executor", "beta.absent:Executor"),
)  # fmt: skip
PLAIN = Unit(name="beta", kinds=KINDS, upcasters=UPCASTERS, executors=("beta.executor:Executor",))
FOREIGN = Unit(name="gamma", kinds=KINDS)
