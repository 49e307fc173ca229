"""From a record's bytes to plain JSON values, as lenient as the programs that wrote it."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from chronicled.migrations.conversion import Original
from chronicled.storage.imports.source import MISSING, Record

__all__ = ["DEPTH_MAX", "decode", "original"]

DEPTH_MAX: Final = 200
"""Deepest nesting that is taken for a record: what is deeper cannot be written again."""
_decode = msgspec.json.Decoder().decode


def original(record: Record, number: int) -> Original:
    """Return the record as a conversion sees it. Total: what cannot be decoded says why."""
    if record.problem is not None:
        return Original(number, record.key, None, record.problem)
    value = record.value
    if value is not MISSING:
        return Original(number, record.key, value)
    try:
        return Original(number, record.key, _decode(record.data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value, problem = decode(record.data)
        return Original(number, record.key, value, problem)


def decode(data: bytes) -> tuple[Any, str | None]:
    """Return the JSON value in `data`, or None and why there is none.

    Takes what Python writes beyond the standard too: NaN and infinities (as None), lone surrogates (as U+FFFD).
    """
    if not data.strip(b" \t\r\n\x00"):
        return None, "empty" if not data else "blank"
    try:
        value = json.loads(data.decode("utf-8-sig"), strict=False, parse_constant=_none)
        return _plain(value, 0), None
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        return None, f"not JSON: {error.msg} at character {error.pos} of {len(data)} bytes"
    except (RecursionError, ValueError) as error:
        return None, f"not readable: {error}"


def _none(_: str) -> None:
    return None


def _plain(value: Any, depth: int) -> Any:
    """Return the value without what UTF-8 cannot carry; numbers that JSON cannot hold again become None."""
    if depth > DEPTH_MAX:
        raise ValueError(f"nested more than {DEPTH_MAX} deep")
    match value:
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_plain(key, depth): _plain(item, depth + 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # whatever JSON has
        case list():
            return [_plain(item, depth + 1) for item in value]  # pyright: ignore[reportUnknownVariableType]  # whatever JSON has
        case float():
            return value if value - value == 0 else None
        case _:
            return value
