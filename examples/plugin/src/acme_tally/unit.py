"""The unit: everything that this package adds to chronicled, in one place."""

from __future__ import annotations

from acme_tally.kinds import KINDS
from acme_tally.steps import DOWNCASTERS, UPCASTERS
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.unit import Unit

__all__ = ["UNIT"]

UNIT = Unit(
    name="acme",
    package="acme_tally",
    kinds=KINDS,
    upcasters=UPCASTERS,
    downcasters=DOWNCASTERS,
    executors=("acme_tally.executor:TallyExecutor",),
    runtimes={"acme.box": "acme_tally.runtime:open_box"},
    redaction=(
        RedactionRule(name="acme.account", fields=("account",)),
        RedactionRule(name="acme.key", pattern=r"acme-key-[0-9a-f]{8,32}", length_max=64),
    ),
    policy="acme_tally.policy:decide",
)
