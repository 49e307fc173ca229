"""How a file's bytes are text: named by the caller, or told from a byte order mark, from being UTF-8, or given up."""

from __future__ import annotations

import codecs
from typing import Final, NamedTuple

from chronicled.runtimes.action_server.files.failure import BadArguments

__all__ = ["FALLBACK", "UTF8", "Charset", "detect", "is_binary", "marked", "named"]


class Charset(NamedTuple):
    """One way in which bytes are text."""

    name: str
    """As the observation says it."""
    codec: str
    mark: bytes = b""
    """The byte order mark that the file begins with."""
    newline: bytes = b"\n"
    width: int = 1
    """Bytes of the smallest character: newlines are looked for at multiples of it."""

    def decode(self, data: bytes, *, whole: bool) -> str:
        """Return the text; without `whole` a character that is cut at the end is left out.

        Raises:
            UnicodeDecodeError: the bytes are something else.
        """
        return codecs.getincrementaldecoder(self.codec)().decode(data, whole)

    def encode(self, text: str) -> bytes:
        """Return the bytes, without the mark.

        Raises:
            UnicodeEncodeError: it has no such character.
        """
        return text.encode(self.codec)


UTF8: Final = Charset("utf-8", "utf-8")
FALLBACK: Final = Charset("latin-1", "latin-1")
"""For text that is not UTF-8 and says nothing of itself: every byte has a character, so nothing is lost either way."""
_MARKED: Final = (
    Charset("utf-8-sig", "utf-8", codecs.BOM_UTF8),
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    Charset("utf-32-le", "utf-32-le", codecs.BOM_UTF32_LE, b"\n\0\0\0", 4),
    Charset("utf-32-be", "utf-32-be", codecs.BOM_UTF32_BE, b"\0\0\0\n", 4),
    Charset("utf-16-le", "utf-16-le", codecs.BOM_UTF16_LE, b"\n\0", 2),
    Charset("utf-16-be", "utf-16-be", codecs.BOM_UTF16_BE, b"\0\n", 2),
)
_FAMILIES: Final = {"utf-8": "utf-8-sig", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
_CONTROLS: Final = bytes(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27}) + b"\x7f"
_UNFIT: Final = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "unicode-escape"})


def marked(head: bytes) -> Charset | None:
    """Return the charset whose byte order mark the file begins with, if it has one."""
    return next((charset for charset in _MARKED if head.startswith(charset.mark)), None)


def named(name: str, head: bytes) -> Charset:
    """Return the charset of that name; `head` is how the file begins.

    Raises:
        BadArguments: there is none here, or it is not one of text.
    """
    try:
        codec = codecs.lookup(name).name
        newline = "\n".encode(codec)
        b"".decode(codec)
    except (LookupError, ValueError, TypeError) as problem:
        raise BadArguments(f"there is no charset {name[:64]!r} here: {problem}") from None
    if codec in _UNFIT:
        raise BadArguments(f"{name[:64]!r} is not a charset of files")
    mark = marked(head)
    if codec in _FAMILIES:
        # The mark says the order; without one it is little-endian, and there is nothing to take off.
        if mark is not None and mark.codec.startswith(codec):
            return mark
        known = next(charset for charset in _MARKED if charset.name == _FAMILIES[codec])
        return UTF8 if codec == "utf-8" else known._replace(mark=b"")
    if codec == "utf-8-sig":
        return mark if mark is not None and mark.codec == "utf-8" else UTF8
    for charset in _MARKED:
        if charset.codec == codec:
            return charset if mark == charset else charset._replace(mark=b"")
    return Charset(name, codec, b"", newline, len(newline))


def detect(data: bytes, *, whole: bool) -> Charset | None:
    """Return UTF-8 or the fallback for bytes without a mark; None for what is no text.

    Args:
        data: The bytes that are to be shown.
        whole: False where the last character may be cut.
    """
    if b"\0" in data:
        return None
    try:
        UTF8.decode(data, whole=whole)
    except UnicodeDecodeError:
        return None if is_binary(data) else FALLBACK
    return UTF8


def is_binary(data: bytes) -> bool:
    """Tell whether bytes hold controls that no text has."""
    return len(data.translate(None, _CONTROLS)) != len(data)
