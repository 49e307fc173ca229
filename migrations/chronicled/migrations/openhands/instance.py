"""What an evaluation says of an instance beside its history: results, settings, patch."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chronicled.events.envelope import OBSERVATION
from chronicled.events.kinds.observations import Notice
from chronicled.migrations.conversion import Converted, Ids, Made, Original

__all__ = ["INSTANCE_KEY", "read_instance"]

INSTANCE_KEY: Final = "@instance"
"""Key of the record that holds it."""


def read_instance(record: Original, value: dict[str, Any], ids: Ids) -> Converted:
    """Return how it went as a notice, where it went wrong; all else stays in the original."""
    made: tuple[Made, ...] = ()
    error = value.get("error")
    if isinstance(error, str) and error:
        notice = msgspec.convert({"content": error, "level": "error"}, Notice)
        made = (Made(ids.of(record.key), OBSERVATION, "notice", notice, actor="openhands"),)
    lost = tuple(name for name, item in value.items() if not _says_nothing(item) and (name != "error" or not made))
    return Converted("evaluation instance", made, lost=lost)


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {}, -1)
