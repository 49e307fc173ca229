"""Names of files as JSON can hold them."""

from __future__ import annotations

import base64
import os

__all__ = ["shown"]


def shown(name: bytes | str, field: str) -> dict[str, str]:
    """Return the name as a field of that name, and its bytes beside it where they are not UTF-8."""
    data = os.fsencode(name)
    try:
        return {field: data.decode()}
    except UnicodeDecodeError:
        return {field: data.decode(errors="replace"), f"{field}_bytes": base64.b64encode(data).decode()}
