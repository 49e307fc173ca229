"""Percent-encoding, undone strictly: what is broken is refused, never guessed."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from chronicled.events.errors import InvalidRequest

__all__ = ["decode_percent"]

HEX: Final = frozenset("0123456789abcdefABCDEF")


def decode_percent(text: str) -> str:
    """Return `text` with its percent-encoding undone.

    Raises:
        InvalidRequest: a `%` is not followed by two hex digits, or the bytes are not UTF-8.
    """
    if "%" not in text:
        if text.isascii():
            return text
        raise InvalidRequest(f"{text.encode(errors='replace')[:100]!r} must be percent-encoded.")
    for index, character in enumerate(text):
        if character == "%" and not (len(text) > index + 2 and text[index + 1] in HEX and text[index + 2] in HEX):
            raise InvalidRequest(f"Broken percent-encoding in {text[:100]!r}.")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"{text[:100]!r} does not decode to UTF-8.") from None
