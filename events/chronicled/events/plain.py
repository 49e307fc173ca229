"""From plain JSON values to typed ones."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["typed"]


def typed(value: Any, kind: Any) -> Any:
    """Return the plain JSON values as that type, as a decoder of JSON would.

    Raises:
        msgspec.ValidationError: they do not fit it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        # In JSON the names in a map are texts, whatever they stand for. To ask for that first would take twice as long.
        return msgspec.convert(value, kind, str_keys=True)
