"""The search for secrets in bytes: all of a session's, in all of their forms, in one pass over folded text."""

from __future__ import annotations

import bisect
import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import accumulate
from typing import Final, Literal

from chronicled.events.secret_escapes import PARTIAL, Decoded, decodings, windows
from chronicled.events.secret_forms import DROPPED, FOLD, HIGH, needles

__all__ = ["Matcher", "Span"]

Span = tuple[int, int, str]
"""Where a secret shows: begin, end, and its name."""

PARTIAL_BYTES_MAX: Final = 256
STRETCH_BYTES: Final = 64
TORN_BYTES_MIN: Final = 4
"""Shortest piece of a value that is taken for one where the data was cut."""


class Folded:
    """A folded text and the way back.

    Args:
        text: The text before.
        dropped: What folding drops.
    """

    __slots__ = ("_dropped", "_ends", "_text", "bytes")

    def __init__(self, text: bytes, dropped: bytes) -> None:
        self.bytes = text.translate(FOLD, dropped)
        self._text = text
        self._dropped = dropped
        self._ends: list[int] = []
        """How many bytes are left of the text up to the end of each stretch of it."""

    def place(self, index: int) -> int:
        """Return where in the text the folded byte stands."""
        text, dropped = self._text, self._dropped
        if not self._ends:
            stretches = (text[at : at + STRETCH_BYTES] for at in range(0, len(text), STRETCH_BYTES))
            self._ends = list(accumulate(len(stretch.translate(None, dropped)) for stretch in stretches))
        number = bisect.bisect_right(self._ends, index)
        begin = low = number * STRETCH_BYTES
        high = min(begin + STRETCH_BYTES, len(text)) - 1
        before = self._ends[number - 1] if number else 0
        wanted = index + 1 - before
        if self._ends[number] - before == high + 1 - begin:
            return begin + wanted - 1  # nothing is dropped there
        while low < high:
            middle = (low + high) // 2
            if len(text[begin : middle + 1].translate(None, dropped)) < wanted:
                low = middle + 1
            else:
                high = middle
        return low


class Matcher:
    """Finds the values of one session.

    Whatever the text, the result depends on the bytes alone and not on how they came: `held` tells which end of a
    stream has to be kept until more of it is there. Nothing longer than `span_bytes_max` is taken for an occurrence.

    Its speed comes from a filter: any occurrence of a needle covers a whole aligned word of the folded text, so a set
    of words (four for a needle, eight where all needles are long) rules out nearly all text in one set look-up.

    Args:
        values: Values by name; each has passed `check_value`.
    """

    __slots__ = (
        "_by_word",
        "_droppings",
        "_format",
        "_heads",
        "_names",
        "_prefixes",
        "_width",
        "_words",
        "span_bytes_max",
    )

    def __init__(self, values: Mapping[str, Collection[str]]) -> None:
        self._names: dict[bytes, str] = {}
        sizes = [0]
        ascii_only = True
        for name in sorted(values):
            for value in values[name]:
                sizes.append(len(value.encode()))
                ascii_only = ascii_only and value.isascii()
                for needle in needles(value):
                    self._names.setdefault(needle, name)
        self.span_bytes_max = 12 * max(sizes) + 256
        self._droppings = (DROPPED,) if ascii_only else (DROPPED, HIGH)
        shortest = min(map(len, self._names), default=0)
        self._format: Literal["I", "Q"] = "Q" if shortest >= 15 else "I"
        self._width = 8 if shortest >= 15 else 4
        self._by_word: dict[int, list[bytes]] = {}
        for needle in self._names:
            for word in _words(needle, self._width):
                self._by_word.setdefault(int.from_bytes(word, sys.byteorder), []).append(needle)
        self._words = frozenset(self._by_word)
        self._heads: dict[bytes, list[bytes]] = {}
        for needle in self._names:
            self._heads.setdefault(needle[:4], []).append(needle)
        self._prefixes = tuple(frozenset(needle[:size] for needle in self._names) for size in (1, 2, 3))

    def __repr__(self) -> str:
        return f"<Matcher of {len(set(self._names.values()))} secrets>"

    def spans(self, data: bytes) -> list[Span]:
        """Return where secrets show, in order, those that overlap as one."""
        found: list[Span] = []
        self._search(data, None, found)
        for begin, end in windows(data, self.span_bytes_max):
            self._search_decoded(data[begin:end], begin, found)
        return _merged(found) if found else found

    def _search_decoded(self, data: bytes, offset: int, found: list[Span]) -> None:
        inside: list[Span] = []
        for pattern in decodings(data):
            decoded = Decoded(data, pattern)
            self._search(decoded.text, decoded, inside)
        found += [(begin + offset, end + offset, name) for begin, end, name in inside]

    def finds(self, data: bytes) -> bool:
        """Tell whether a secret shows."""
        return bool(self.spans(data))

    def held(self, data: bytes) -> int:
        """Return from where on the data may be the beginning of an occurrence that goes on behind its end."""
        base = max(0, len(data) - self.span_bytes_max)
        tail = data[base:]
        partial = PARTIAL.search(tail[-PARTIAL_BYTES_MAX:])
        stop = len(tail) if partial is None else partial.start() + max(0, len(tail) - PARTIAL_BYTES_MAX)
        begin = min(stop, self._prefix(tail))
        whole = tail[:stop]
        if partial is not None:
            begin = min(begin, self._prefix(whole))
        for pattern in decodings(whole):
            decoded = Decoded(whole, pattern)
            at = self._prefix(decoded.text)
            if at < len(decoded.text):
                begin = min(begin, decoded.start(at))
        return base + begin

    def torn(self, data: bytes, *, head: bool, tail: bool) -> list[Span]:
        """Return where the rest of a value stands at an end of the data at which something was cut off."""
        found: list[Span] = []
        text = Folded(data, DROPPED)
        folded = text.bytes
        for needle, name in self._names.items():
            if head:
                at = folded.find(needle[-TORN_BYTES_MIN:], 0, len(needle))
                end = at + TORN_BYTES_MIN
                if at >= 0 and needle.endswith(folded[:end]):
                    found.append((0, text.place(end - 1) + 1, name))
            if tail:
                at = folded.rfind(needle[:TORN_BYTES_MIN], max(0, len(folded) - len(needle)))
                if at >= 0 and needle.startswith(folded[at:]):
                    found.append((text.place(at), len(data), name))
        return _merged(found) if found else found

    # -- whole occurrences -----------------------------------------------------------------------------------------

    def _search(self, text: bytes, decoded: Decoded | None, found: list[Span]) -> None:
        for dropped in self._droppings:
            folded = Folded(text, dropped)
            for needle in self._suspects(folded.bytes):
                name = self._names[needle]
                at = folded.bytes.find(needle)
                while at >= 0:
                    begin, end = folded.place(at), folded.place(at + len(needle) - 1) + 1
                    if decoded is not None:
                        begin, end = decoded.start(begin), decoded.end(end)
                    if end - begin <= self.span_bytes_max:
                        found.append((begin, end, name))
                    at = folded.bytes.find(needle, at + 1)

    def _suspects(self, folded: bytes) -> Iterable[bytes]:
        """Return the needles of which a word stands in the folded text."""
        whole = len(folded) - len(folded) % self._width
        words = memoryview(folded)[:whole].cast(self._format)
        if self._words.isdisjoint(words):
            return ()
        return {needle for word in self._words.intersection(words) for needle in self._by_word[word]}

    # -- beginnings ------------------------------------------------------------------------------------------------

    def _prefix(self, text: bytes) -> int:
        """Return where the longest end of the text begins that a needle begins with; its length for none."""
        return min(self._prefix_under(text, dropped) for dropped in self._droppings)

    def _prefix_under(self, text: bytes, dropped: bytes) -> int:
        whole = Folded(text, dropped)
        folded = whole.bytes
        size = best = len(folded)
        for head, same in self._heads.items():
            longest = max(map(len, same))
            at = folded.find(head, max(0, size - longest + 1), best + 3)
            while 0 <= at < best:
                end = folded[at:]
                if any(len(end) < len(needle) and needle.startswith(end) for needle in same):
                    best = at
                    break
                at = folded.find(head, at + 1, best + 3)
        for length in (3, 2, 1):
            if size - length < best and folded[size - length :] in self._prefixes[length - 1] and size >= length:
                best = size - length
        return len(text) if best == size else whole.place(best)


def _words(needle: bytes, width: int) -> list[bytes]:
    """Return the words of which an occurrence of the needle covers one, whatever its alignment."""
    reach = 2 * width - 1
    # Where it is most mixed, and late: tokens of one maker begin alike.
    begin = max(range(len(needle) - reach + 1), key=lambda at: (len(set(needle[at : at + reach])), at))
    return [needle[begin + shift : begin + shift + width] for shift in range(width)]


def _merged(found: list[Span]) -> list[Span]:
    found.sort(key=lambda span: (span[0], -span[1], span[2]))
    merged = [found[0]]
    for begin, end, name in found[1:]:
        last = merged[-1]
        if begin < last[1]:
            merged[-1] = (last[0], max(end, last[1]), last[2])
        else:
            merged.append((begin, end, name))
    return merged
