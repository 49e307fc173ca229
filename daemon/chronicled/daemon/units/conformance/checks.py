"""What must be true of a unit before any of it runs: each check returns what is wrong, in sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chronicled.daemon.units.conformance.payloads import payloads
from chronicled.events.kind import KindSpec
from chronicled.events.redaction import IdentityRedaction
from chronicled.events.redaction_rule import RedactionRule
from chronicled.events.registry import Registry
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.migrations.chain import Downcaster, Upcaster
from chronicled.migrations.lock import lock_of, problems, render
from chronicled.migrations.unit import Unit
from chronicled.migrations.vocabulary import vocabulary

__all__ = [
    "GOLDEN",
    "LOCK",
    "downcaster_problems",
    "golden_problems",
    "lock_problems",
    "rule_problems",
    "upcaster_problems",
]

LOCK = "schema.lock"
GOLDEN = "golden"
EXAMPLES = 100
_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


def lock_problems(unit: Unit) -> list[str]:
    """Return what is wrong between the unit's kinds and its lock file."""
    if not unit.package:
        return ["the unit does not say in `package` where its schema.lock and its golden files are"]
    path = files(unit.package).joinpath(LOCK)
    wanted = render(lock_of(unit.kinds))
    if not path.is_file():
        return [f"{path} is missing; once the kinds are as they are to stay for ever, it holds:\n{wanted}"]
    lines = path.read_text(encoding="utf-8").splitlines()
    lock = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    found = problems(unit.kinds, lock)
    return [*found, f"with all lines that are right, {path} holds:\n{wanted}"] if found else []


def golden_problems(unit: Unit) -> list[str]:
    """Return which versions of kinds have no golden event, or one that this code does not read or write any more."""
    found: list[str] = []
    registry, chain = vocabulary([unit])
    for spec in unit.kinds:
        name = f"{spec.category}.{spec.kind}.{spec.version}.json"
        path = files(unit.package or __package__ or "").joinpath(GOLDEN, name)
        if not path.is_file():
            found.append(f"{path} is missing: an event as this version writes it, one line of JSON")
            continue
        data = path.read_bytes().strip()
        try:
            payload = msgspec.json.decode(data, type=spec.payload)
            if registry.find_current(spec.category, spec.kind, spec.version) is not spec:
                kind, version, value = chain.upcast(spec.category, spec.kind, spec.version, msgspec.json.decode(data))
                _convert(registry, spec.category, kind, version, value)
        except Exception as error:
            found.append(f"{path} cannot be read any more: {type(error).__name__}: {error}")
            continue
        if msgspec.json.encode(payload) != data:
            found.append(f"{path} is not what this version writes: {msgspec.json.encode(payload).decode()}")
    return found


def upcaster_problems(unit: Unit, step: Upcaster) -> list[str]:
    """Return why the upcaster is not total, or does not lead to its next version; tried with random payloads."""
    registry, chain = vocabulary([unit])
    spec = registry.find(step.category, step.kind, step.version)
    assert spec is not None, "the vocabulary has checked that"

    def upgrade(payload: dict[str, Any]) -> None:
        kind, version, value = chain.upcast(step.category, step.kind, step.version, payload)
        _convert(registry, step.category, kind, version, value)

    return _tried(spec, upgrade, f"the upcaster of {step.category} {step.kind} from version {step.version}")


def downcaster_problems(unit: Unit, step: Downcaster) -> list[str]:
    """Return why the downcaster is not right. It may say with a ValueError that the older version cannot tell that."""
    registry, chain = vocabulary([unit])
    above = step.above or (step.kind, step.version + 1)
    spec = registry.find(step.category, *above)
    assert spec is not None, "the vocabulary has checked that"

    def downgrade(payload: dict[str, Any]) -> None:
        try:
            kind, version, value = chain.downcast(step.category, *above, payload)
        except ValueError:
            return
        _convert(registry, step.category, kind, version, value)

    return _tried(spec, downgrade, f"the downcaster of {step.category} {step.kind} to version {step.version}")


def _convert(registry: Registry, category: Any, kind: str, version: int, value: Any) -> None:
    target = registry.find(category, kind, version)
    assert target is not None, "the chain leads to a version that is known"
    msgspec.convert(value, target.payload, str_keys=True)


def _tried(spec: KindSpec, step: Callable[[dict[str, Any]], None], what: str) -> list[str]:
    """Return what a step fails with, on the smallest payload of its version that makes it fail."""
    last: list[bytes] = []

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=_SLOW)
    @given(payloads(spec.payload))
    def attempt(payload: dict[str, Any]) -> None:
        last[:] = [msgspec.json.encode(payload)]
        # What stands in a log is what the struct wrote.
        stored = msgspec.json.encode(msgspec.json.decode(last[0], type=spec.payload))
        last[:] = [stored]
        step(msgspec.json.decode(stored))

    try:
        attempt()
    except (Exception, SystemExit) as error:
        return [f"{what} fails with {type(error).__name__}: {error}, given {last[0].decode() if last else '?'}"]
    return []


def rule_problems(unit: Unit, rule: RedactionRule) -> list[str]:
    """Return why the rule lets through what it is to replace; tried with random values, cut anywhere."""
    redaction = RuleRedaction([rule])
    found: list[str] = []
    kinds = [spec for spec in unit.kinds if any(name in spec.payload.__struct_fields__ for name in rule.fields)]
    if rule.fields and not kinds:
        found.append(f"{rule.name}: no kind of the unit has any of the fields {', '.join(rule.fields)}")
    if rule.pattern:
        found += _pattern_problems(unit, rule, redaction)
    return found


def _pattern_problems(unit: Unit, rule: RedactionRule, redaction: RuleRedaction) -> Iterator[str]:
    kind = f"{unit.name}.any"
    matching = st.from_regex(re.compile(rule.pattern), fullmatch=True)

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=_SLOW)
    @given(matching, st.integers(0, 200))
    def attempt(secret: str, cut: int) -> None:
        data = secret.encode()
        if len(data) > rule.length_max:
            raise ValueError(f"length_max is {rule.length_max}, and {secret!r} is longer")
        whole = redaction.payload(kind, msgspec.json.encode({"text": f" {secret} "}))
        assert msgspec.json.encode(secret)[1:-1] not in whole, f"a payload still has {secret!r}"
        assert redaction.payload(kind, whole) == whole, "done twice, it changes what it has replaced"
        if b"\n" in data:
            return
        stream = redaction.stream(kind, IdentityRedaction().stream("", ""))
        text = b"- " + data + b" -"
        passed = stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.finish()
        assert data not in passed, f"an output that is cut at {cut} still has {secret!r}"

    try:
        attempt()
    except Exception as error:
        yield f"{rule.name}: {error}"
