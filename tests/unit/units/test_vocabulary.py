"""What a unit may add to what can be read, and what not."""

from __future__ import annotations

from typing import Any

import pytest

from chronicled.events import Payload, TerminalPayload, action, lifecycle, observation
from chronicled.events.errors import UnitBroken
from chronicled.events.kinds.runnable import Runnable
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.chain import Downcaster, Upcaster, unchanged
from chronicled.migrations.fields import Fields
from chronicled.migrations.unit import Unit
from chronicled.migrations.vocabulary import vocabulary


class Do(Runnable, frozen=True, kw_only=True):
    """An action."""


class Done(TerminalPayload, frozen=True, kw_only=True):
    """Its end."""


class Told(Payload, frozen=True, kw_only=True):
    """As it was once."""

    text: str = ""


class Note(Payload, frozen=True, kw_only=True):
    """Only recorded."""


RIGHT: dict[str, Any] = {
    "name": "acme",
    "kinds": (action("acme.do", Do, runnable=True), observation("acme.do", Done, terminal=True)),
}
TWO = (action("acme.note", Note), action("acme.note", Note, version=2))
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no prefix": ({"kinds": (action("do", Do),)}, "does not bear the owner's prefix 'acme'"),
    "another's prefix": ({"kinds": (action("acmes.do", Do),)}, "does not bear the owner's prefix 'acme'"),
    "one of ours": ({"kinds": (action("run", Do, runnable=True),)}, "does not bear the owner's prefix"),
    "a version of ours": ({"kinds": (action("run", Do, version=3, runnable=True),)}, "does not bear"),
    "an upcaster of ours": ({"upcasters": (Upcaster("action", "run", 2, unchanged),)}, "does not bear"),
    "a downcaster of ours": ({"downcasters": (Downcaster("action", "run", 2, unchanged),)}, "does not bear"),
    "lifecycle": ({"kinds": (lifecycle("acme.over", Note),)}, "lifecycle events are ours"),
    "no path": ({"kinds": TWO}, "no upcaster from version 1"),
    "a gap": ({"kinds": (action("acme.note", Note, version=2),)}, "version 2 does not follow 0"),
    "no end": ({"kinds": (action("acme.do", Do, runnable=True),)}, "needs a terminal observation"),
    "a step to nowhere": ({"upcasters": (Upcaster("action", "acme.do", 1, unchanged),)}, "acme.do"),
    "a bad name": ({"kinds": (action("acme.Do", Note),)}, "lower case words"),
    "a bad prefix": ({"name": "Acme", "kinds": ()}, "cannot be an owner's prefix"),
    "our prefix": ({"name": "chronicled", "kinds": ()}, "cannot be an owner's prefix"),
    "no reference": ({"executors": ("acme.executor.Executor",)}, "not of the form package.module:Name"),
    "a step that leaves a field": (
        {
            "kinds": (action("acme.note", Told), action("acme.note", Note, version=2)),
            "upcasters": (Upcaster("action", "acme.note", 1, Fields(renamed={"gone": "back"})),),
        },
        "has no field 'text'",
    ),
    "a name that is none": ({"name": 5}, "TypeError"),
    "kinds that are none": ({"kinds": ("acme.do",)}, "AttributeError"),
    "a reference that is none": ({"executors": (5,)}, "TypeError"),
    "a pattern beyond all": ({"redaction": (RedactionRule(name="acme.x", pattern="a{99999999999}"),)}, "pattern"),
    "a pattern that is no text": ({"redaction": (RedactionRule(name="acme.x", pattern="\ud800"),)}, "pattern"),
    "distributions that are none": ({"distributions": (5,)}, "distribution"),
    "a foreign runtime": ({"runtimes": {"process": "acme.box:open"}}, "runtime 'process' does not bear"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_unit_that_is_wrong_is_refused_by_name(what: str) -> None:
    """Whatever is wrong: the unit and the reason are told, and nothing of it is registered."""
    changes, words = WRONG[what]
    unit = Unit(**{**RIGHT, **changes})
    with pytest.raises(UnitBroken, match=words) as refused:
        vocabulary([unit])
    assert refused.value.detail.startswith(f"The unit {unit.name!r} is not right")


def test_units_stand_side_by_side() -> None:
    """Two units are read together with the built-in kinds; the same name twice is refused."""
    other = Unit(name="beta", kinds=(action("beta.note", Note),))
    registry, _ = vocabulary([Unit(**RIGHT), other])
    assert len(registry) == len(vocabulary().registry) + 3
    with pytest.raises(UnitBroken, match="another unit has the same name"):
        vocabulary([Unit(**RIGHT), Unit(name="acme", kinds=(action("acme.note", Note),))])


def test_a_path_makes_it_right() -> None:
    """Negative control: with its upcaster the kind of two versions is registered."""
    unit = Unit(name="acme", kinds=TWO, upcasters=(Upcaster("action", "acme.note", 1, unchanged),))
    assert vocabulary([unit]).registry.current("action", "acme.note").version == 2
