"""The items of a JSON array in a file, one at a time and as the bytes that stood there, whatever the file's size."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from chronicled.storage.imports.files import RECORD_BYTES_MAX

__all__ = ["Item", "array_items"]

BLOCK_BYTES: Final = 1 << 20
DONE_CHARACTERS: Final = 1 << 16
RESUMES_MAX: Final = 64
"""How many places behind a damaged item are tried before the rest counts as damaged."""
BETWEEN: Final = re.compile(r"[\s,\x00]*")
BLANK: Final = re.compile(r"[\s\ufeff]*")
NEXT: Final = re.compile(r",\s*(?=[\[{])")
NAMES: Final = ("action", "observation", "kind")
"""One of them stands in every event, whoever wrote it."""


class Item(NamedTuple):
    """One item; `problem` says what is wrong with it."""

    data: bytes
    problem: str | None = None
    key: str = ""
    """What it is known by, where it is no item of the array but stands beside it."""


class _Text:
    """The file's text as far as it is looked at; bytes that are not UTF-8 stay what they were."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.at = 0
        self.over = False

    def more(self) -> bool:
        """Read on, twice as much as is held so far; False where there was nothing more."""
        if self.over:
            return False
        data = self._stream.read(max(BLOCK_BYTES, len(self.text) - self.at))
        self.over = not data
        self.text = self.text[self.at :] + self._decoder.decode(data, final=self.over)
        self.at = 0
        return not self.over

    def forget(self) -> None:
        """Let go of much that is done: what a decoder says of damage costs as much as stands before it."""
        if self.at >= DONE_CHARACTERS:
            self.text, self.at = self.text[self.at :], 0

    def skip(self, what: re.Pattern[str]) -> str:
        """Go behind what matches, and return the character there; "" at the end."""
        while True:
            found = what.match(self.text, self.at)
            self.at = self.at if found is None else found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""


def array_items(stream: BinaryIO) -> Iterator[Item]:
    """Yield the items of the array that the stream holds.

    A torn array gives its whole items, then one damaged item: what is left. A damaged item in the middle is yielded as
    such, and reading goes on behind it where an event can be found again. Memory is bounded by the largest item.
    """
    source = _Text(stream)
    decode = json.JSONDecoder(strict=False).raw_decode
    first = source.skip(BLANK)
    if first != "[":
        rest = _rest(source)
        yield Item(rest, "not a JSON array")
        return
    source.at += 1
    while True:
        source.forget()
        first = source.skip(BETWEEN)
        if first == "]":
            return
        if not first:
            yield Item(b"", "the array has no end: the file is torn")
            return
        try:
            _, end = decode(source.text, source.at)
        except (ValueError, RecursionError):
            if len(source.text) - source.at <= RECORD_BYTES_MAX and source.more():
                continue
            end = _resume(source)
            yield Item(_bytes(source.text[source.at : end]), "damaged: no JSON")
            source.at = end
            if source.over and end >= len(source.text):
                return
            continue
        if end == len(source.text) and source.more():
            # A number might go on.
            continue
        yield Item(_bytes(source.text[source.at : end]))
        source.at = end


def _resume(source: _Text) -> int:
    """Return where an event begins again behind a damaged item, or the end of what is held."""
    decoder = json.JSONDecoder(strict=False).raw_decode
    for number, found in enumerate(NEXT.finditer(source.text, source.at + 1)):
        if number >= RESUMES_MAX:
            break
        try:
            value, _ = decoder(source.text, found.end())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and any(name in value for name in NAMES):
            return found.start()
    return len(source.text)


def _rest(source: _Text) -> bytes:
    while len(source.text) <= RECORD_BYTES_MAX and source.more():
        pass
    return _bytes(source.text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
