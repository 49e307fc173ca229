"""What edits changed, newest last, so that they can be undone: per file, bounded, for the life of the generation."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from typing import Final, NamedTuple

__all__ = ["EDITS_MAX", "EditHistory", "Undo"]

EDITS_MAX: Final = 16
"""Edits of one file that can be undone."""
_FILES_MAX: Final = 1024
_BYTES_MAX: Final = 8 << 20
"""Of what all of them keep; the files that were edited longest ago give way."""


class Undo(NamedTuple):
    """How to undo one edit: put `old` back in place of `length` characters at `start`."""

    start: int
    length: int
    old: str
    left: bytes
    """Digest of the text that the edit left: only that can be undone."""
    created: bool
    """The edit made the file: undone, it is gone."""


class EditHistory:
    """May be used by many threads, but one at a time for any one file."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, deque[Undo]] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def note(self, path: str, old: str | None, new: str) -> None:
        """Keep what it takes to get from the new text back to the old one; None stands for no file."""
        undo = _undo(old or "", new, created=old is None)
        with self._guard:
            edits = self._files.setdefault(path, deque())
            self._files.move_to_end(path)
            edits.append(undo)
            self._bytes += len(undo.old)
            if len(edits) > EDITS_MAX:
                self._bytes -= len(edits.popleft().old)
            while self._files and (len(self._files) > _FILES_MAX or self._bytes > _BYTES_MAX):
                _, forgotten = self._files.popitem(last=False)
                self._bytes -= sum(len(each.old) for each in forgotten)

    def last(self, path: str) -> Undo | None:
        """Return how to undo the newest edit of the file, if there is one."""
        with self._guard:
            edits = self._files.get(path)
            return edits[-1] if edits else None

    def forget_last(self, path: str) -> None:
        """Drop the newest edit of the file, which has been undone."""
        with self._guard:
            edits = self._files.get(path)
            if edits:
                self._bytes -= len(edits.pop().old)
            if not edits:
                self._files.pop(path, None)

    @staticmethod
    def digest(text: str) -> bytes:
        """Return what `Undo.left` is compared with."""
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _undo(old: str, new: str, *, created: bool) -> Undo:
    start, shorter = 0, min(len(old), len(new))
    # Equal halves are skipped at once: comparing slices is the system's work, characters one by one is not.
    step = shorter
    while step:
        if old[start : start + step] == new[start : start + step]:
            start += step
            step = min(step, shorter - start)
        else:
            step //= 2
    end, shorter = 0, shorter - start
    step = shorter
    while step:
        if old[len(old) - end - step : len(old) - end] == new[len(new) - end - step : len(new) - end]:
            end += step
            step = min(step, shorter - end)
        else:
            step //= 2
    return Undo(start, len(new) - end - start, old[start : len(old) - end], EditHistory.digest(new), created)
