"""Bytes that stood inside events as text: data URLs of screenshots and images, and long outputs."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, Final

from chronicled.events.limits import OUTPUT_INLINE_BYTES_MAX, PART_HEAD_BYTES_MAX
from chronicled.migrations.openhands.v0.envelope import Envelope, is_array

__all__ = ["image", "image_list", "output"]

INLINE_CHARACTERS_MAX: Final = 8 << 10
"""Longest data URL that stays in an event."""
CUT: Final = "[... Observation truncated due to length ...]"
"""What OpenHands wrote in place of what it left out (since 0.50.0); before, other words in brackets."""


def image(e: Envelope, value: Any) -> str | None:
    """Attach an image that stands as a data URL or base64, and return its digest; None where there is none."""
    if not isinstance(value, str) or not value:
        return None
    return _attach(e, _bytes(value))


def image_list(e: Envelope, value: Any) -> list[str]:
    """Return the URLs of a list of images; long data URLs become `blob:DIGEST`."""
    if value is None:
        return []
    found: list[str] = []
    for item in value if is_array(value) else [value]:
        if not isinstance(item, str):
            raise ValueError("the URL of an image is text")
        long = item.startswith("data:") and len(item) > INLINE_CHARACTERS_MAX
        found.append(f"blob:{_attach(e, _bytes(item))}" if long else item)
    return found


def output(e: Envelope, content: str) -> dict[str, Any]:
    """Return the fields of an observation that say what was printed; what is long becomes a blob."""
    data = content.encode()
    fields: dict[str, Any] = {"output": content, "output_bytes": len(data), "truncated": CUT in content}
    if len(data) > OUTPUT_INLINE_BYTES_MAX:
        half = PART_HEAD_BYTES_MAX
        head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
        left = len(data) - len(head.encode()) - len(tail.encode())
        digest = _attach(e, data)
        fields["output"] = f"{head}\n[{left} bytes more]\n{tail}"
        fields.update(output_digest=digest, output_blob=True, truncated=True)
    return fields


def _attach(e: Envelope, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    e.attached[digest] = data
    return digest


def _bytes(value: str) -> bytes:
    header, comma, body = value.partition(",") if value.startswith("data:") else ("", "", value)
    if not comma or header.endswith(";base64"):
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            return value.encode()
    return value.encode()
