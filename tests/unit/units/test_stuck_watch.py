"""Who is named when a unit's code holds up the loop, and what becomes of a rule that does not end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import msgspec
import pytest
from tests.unit.events.test_kinds import event
from tests.unit.migrations.plain_steps import New, Old, moved

from chronicled.daemon.units.stuck_watch import Culprit, StuckWatch, culprit
from chronicled.events import Codec, Opaque, Registry, action
from chronicled.events.redaction import IdentityRedaction
from chronicled.events.redaction_rule import RedactionRule
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.migrations.chain import Chain, Upcaster

OWNERS = {"tests": "ours", "tallies": "tally"}
ENDLESS = "a" * 60
HIDDEN = "<secret:tally.endless>"
RULE = RedactionRule(name="tally.endless", pattern=r"(?:a|aa)+!", length_max=100)
LATE = RedactionRule(name="tally.key", pattern=r"key-[0-9]+", length_max=100)


def wrong(error: BaseException) -> None:
    """Stand where a process would end."""
    raise AssertionError(error)


@pytest.fixture
async def watch() -> Any:
    """A watch over this very loop."""
    watch = StuckWatch(OWNERS, 1.0, wrong)
    watch.start()
    yield watch
    watch.stop()


async def test_a_rule_that_never_ends_hides_all_texts(watch: StuckWatch) -> None:
    """The payload at hand, and every later one, of which the rule would find nothing: nobody has asked it."""
    redaction = RuleRedaction([RULE, LATE])
    first = msgspec.json.decode(redaction.payload("tally.add", msgspec.json.encode({"text": ENDLESS, "reason": "r"})))
    assert first == {"text": HIDDEN, "reason": "r"}
    later = msgspec.json.decode(redaction.payload("tally.add", msgspec.json.encode({"text": ["b"], "n": 1})))
    assert later == {"text": [HIDDEN], "n": 1}
    assert redaction.payload("other.add", b'{"text":"b"}') == b'{"text":"b"}'


@pytest.mark.parametrize("keep_length", [False, True])
async def test_a_rule_that_never_ends_hides_the_rest_of_an_output(watch: StuckWatch, keep_length: bool) -> None:
    """What was passed before stays; from there on one placeholder, or a `*` for each byte, stands for everything."""
    redaction = RuleRedaction([RULE])
    stream = redaction.stream("tally.add", IdentityRedaction().stream("", ""), keep_length=keep_length)
    before = stream.feed(b"first\n")
    after = [stream.feed(ENDLESS.encode()), stream.feed(b"more\n"), stream.finish()]
    assert before == b"first\n"
    assert b"".join(after) == (b"*" * (len(ENDLESS) + 5) if keep_length else HIDDEN.encode())
    again = redaction.stream("tally.add", IdentityRedaction().stream("", ""))
    assert again.feed(b"b\n") + again.finish() == HIDDEN.encode()


def _spinning(payload: dict[str, Any]) -> dict[str, Any]:
    while payload:
        pass
    return payload


async def test_a_step_that_never_ends_is_called_once(watch: StuckWatch) -> None:
    """The event is opaque, the next one is it at once, and other kinds are read."""
    specs = [action(kind, each, version=n) for kind in ("a.spin", "a.move") for n, each in ((1, Old), (2, New))]
    chain = Chain([Upcaster("action", "a.spin", 1, _spinning), Upcaster("action", "a.move", 1, moved)])
    codec = Codec(Registry(specs), chain)
    payload = msgspec.json.encode(Old(name="a"))
    first, second = (codec.decode(event("a.spin", payload, 1)) for _ in range(2))
    assert isinstance(first, Opaque)
    assert isinstance(second, Opaque)
    assert "_spinning" in first.reason
    assert "did not end" in second.reason
    assert first.why == second.why == "upcaster_failed"
    assert codec.decode(event("a.move", payload, 1)).title == "a"


def _frame() -> FrameType | None:
    return sys._getframe()  # pyright: ignore[reportPrivateUsage]  # what a signal's handler gets


def _called(function: Callable[[], Any], module: str) -> Any:
    """Call it from a module of that name."""
    caller = ModuleType(module)
    exec("def call(function):\n return function()\n", vars(caller))  # noqa: S102 - a frame of that module
    return caller.call(function)


def test_code_of_a_unit_is_named_with_what_guards_it() -> None:
    """Only where one of those stands below that take whatever is raised."""
    found = _called(lambda: culprit(_frame(), OWNERS), "chronicled.events.codec")
    assert found is not None
    assert (found.unit, found.guarded) == ("ours", True)
    assert found.where.startswith("_frame (")
    assert not isinstance(culprit(_frame(), {}), Culprit)
    bare = _called(lambda: culprit(_called(_frame, "tallies.kinds"), {"tallies": "tally"}), "chronicled.runtimes.any")
    assert (bare.unit, bare.guarded) == ("tally", False)
    steps = _called(lambda: culprit(_called(_frame, "chronicled.steps.tallies.x"), {"tallies": "tally"}), "any")
    assert steps.unit == "tally"


def files(path: Path) -> Iterator[Path]:
    """Yield our modules that call units, as the watch names them."""
    yield from path.glob("*/chronicled/**/*.py")


def test_the_watch_names_modules_that_there_are() -> None:
    """A guard that was renamed would leave its units to run for ever."""
    from chronicled.daemon.units.stuck_watch import GUARDS

    root = Path(__file__).parents[3]
    known = {".".join(each.relative_to(root).with_suffix("").parts[1:]) for each in files(root)}
    assert known >= GUARDS
