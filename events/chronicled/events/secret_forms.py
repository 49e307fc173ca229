r"""The forms in which a secret may show: what is searched for, and which values can be searched for at all.

Two texts count as the same when their *folded* bytes do: without white space, controls, quotes, backslashes, `+`
and `-`, ASCII letters in lower case, `_` as `/`. One folded needle so covers what shells, JSON, YAML, URLs, line
wrapping, UTF-16 and both alphabets of base64 do to a value; what replaces characters (percent, `\u0041`) is undone
before.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Final

from chronicled.events.errors import SecretRefused

__all__ = [
    "DROPPED",
    "FOLD",
    "HIGH",
    "NEEDLE_BYTES_MIN",
    "VALUE_BYTES_MAX",
    "VALUE_CHARS_MIN",
    "check_value",
    "fold",
    "needles",
]

DROPPED: Final = bytes(range(33)) + b"\x7f'\"`\\+-"
HIGH: Final = DROPPED + bytes(range(0x80, 0x100))
"""Dropped as well where bytes that are no ASCII may have been replaced: U+FFFD, question marks, another encoding."""
FOLD: Final = bytes(ord("/") if byte == ord("_") else byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))

NEEDLE_BYTES_MIN: Final = 7
"""Shortest folded form that the search finds."""
VALUE_CHARS_MIN: Final = 8
"""Fewest characters that count: shorter values would be found in innocent text."""
DISTINCT_MIN: Final = 5
"""Fewest different characters among them."""
VALUE_BYTES_MAX: Final = 32 << 10
ARMOUR: Final = ("-----BEGIN ", "-----END ")


def fold(data: bytes) -> bytes:
    """Return the folded bytes."""
    return data.translate(FOLD, DROPPED)


def check_value(name: str, value: str) -> None:
    """Refuse a value that could not be found again, or would be found where it is not.

    Raises:
        SecretRefused: it is too short, too monotonous, too long, or holds NUL or what is no Unicode; the message says
            which, and nothing of the value.
    """
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise SecretRefused(f"The value of secret {name} is not valid Unicode.", secret=name) from None
    if b"\0" in raw:
        raise SecretRefused(f"The value of secret {name} holds a NUL character.", secret=name)
    if len(raw) > VALUE_BYTES_MAX:
        raise SecretRefused(f"The value of secret {name} has more than {VALUE_BYTES_MAX} bytes.", secret=name)
    folded = fold(raw).decode()
    if len(folded) < VALUE_CHARS_MIN or any(len(each) < NEEDLE_BYTES_MIN for each in needles(value)):
        raise SecretRefused(
            f"The value of secret {name} is too short to be told from other text: it needs {VALUE_CHARS_MIN} "
            "characters that are not white space, quotes, backslashes, + or -.",
            secret=name,
        )
    if len(set(folded)) < DISTINCT_MIN:
        raise SecretRefused(
            f"The value of secret {name} is too monotonous to be told from other text: it needs {DISTINCT_MIN} "
            "different characters.",
            secret=name,
        )
    placeholder = fold(f"<secret:{name}>".encode())
    if any(each in placeholder for each in needles(value)):
        raise SecretRefused(f"The value of secret {name} is its own name.", secret=name)


def needles(value: str) -> set[bytes]:
    """Return the folded forms of the value."""
    raw = value.encode()
    found = {fold(raw), fold(raw.hex().encode()), *map(fold, _base64_cores(raw))}
    if not value.isascii():
        found |= {fold(value.encode("utf-16-le")), fold(value.encode("utf-16-be"))}
        ascii_alone = raw.translate(FOLD, HIGH)
        if len(ascii_alone) >= VALUE_CHARS_MIN and len(set(ascii_alone)) >= DISTINCT_MIN:
            found.add(ascii_alone)
    return found | set(_lines(value))


def _base64_cores(raw: bytes) -> Iterator[bytes]:
    """Yield the characters of base64 that depend on the value alone, wherever in a longer text it begins."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + raw)
        yield encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]


def _lines(value: str) -> Iterator[bytes]:
    """Yield the lines of a value of several, since tools show such values line by line."""
    lines = value.splitlines()
    if len(lines) < 2:
        return
    for line in lines:
        folded = fold(line.encode())
        if not line.startswith(ARMOUR) and len(folded.decode()) >= VALUE_CHARS_MIN and len(set(folded)) >= DISTINCT_MIN:
            yield folded
