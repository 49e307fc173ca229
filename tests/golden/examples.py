"""One example payload per kind, made from its type: every field filled, always the same values.

`python -m tests.golden.examples` writes the golden file of each kind that has none yet; it never overwrites one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from chronicled.events.kind import KindSpec
from chronicled.events.registry import builtin_registry

KINDS = Path(__file__).parent / "kinds"

# Where fields exclude each other, the example says which it fills.
PATTERNS = {
    "^[A-Za-z_][A-Za-z0-9_]*$": "NAME",
    "^[0-9a-f]{64}$": "ab" * 32,
    "^0[0-7]{3}$": "0644",
    r"^/[^\x00]*$": "/a/é",
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "a.name",
    r"^\d{1,10}(:\d{1,10})?$": "1000:1000",
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "condensation": {
        "forgotten_event_ids": None,
        "forgotten_sequence_first": 3,
        "forgotten_sequence_last": 9,
        "summary": "ünïcode",
        "summary_offset": 3,
    },
    "read": {"byte_offset": None, "byte_count": None},
    "run": {"argv": None},
}


def example(spec: KindSpec) -> msgspec.Struct:
    """Return the example payload of a kind."""
    info = inspect.type_info(spec.payload)
    assert isinstance(info, inspect.StructType)
    values = _struct(info)
    if spec.category == "action":
        fields = spec.payload.__struct_fields__
        values.update({name: value for name, value in OVERRIDES.get(spec.kind, {}).items() if name in fields})
    return msgspec.convert(values, spec.payload)


def _struct(info: inspect.StructType) -> dict[str, Any]:
    return {field.encode_name: _value(field.type) for field in info.fields}


def _value(info: inspect.Type) -> Any:
    match info:
        case inspect.StrType(pattern=pattern):
            return PATTERNS[pattern] if pattern else "é\n"
        case inspect.BoolType():
            return True
        case inspect.IntType(ge=low):
            return (low or 0) + 7
        case inspect.FloatType():
            return 1.5
        case inspect.LiteralType(values=values):
            return values[-1]
        case inspect.EnumType(cls=members):
            return [member.value for member in members][1]
        case inspect.UnionType(types=types):
            return _value(next(kind for kind in types if not isinstance(kind, inspect.NoneType)))
        case inspect.ListType(item_type=item):
            return [_value(item)]
        case inspect.TupleType(item_types=items):
            return [_value(item) for item in items]
        case inspect.DictType(key_type=key, value_type=value):
            return {_value(key): _value(value)}
        case inspect.StructType():
            return _struct(info)
        case inspect.AnyType():
            return {"any": [1, None, "x"]}
        case _:
            raise TypeError(f"no example for {info}")


def golden_path(spec: KindSpec) -> Path:
    """Return where the golden bytes of a kind at a version stand."""
    return KINDS / f"{spec.category}.{spec.kind}.{spec.version}.json"


def main() -> None:
    """Write the golden file of each kind that has none."""
    for spec in builtin_registry():
        path = golden_path(spec)
        if not path.exists():
            path.write_bytes(msgspec.json.encode(example(spec)))


if __name__ == "__main__":
    main()
