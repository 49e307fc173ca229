"""What `download` does: one file, or a tree as an archive, as a stream of bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from typing import Any, Final

from chronicled.events.kinds.files import Download
from chronicled.runtimes.action_server.files.packing import Packing
from chronicled.runtimes.action_server.files.regular import chunks, open_regular
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["Downloading"]

_HOP_BYTES: Final = 1 << 20
"""Most that one visit to a thread gathers."""


class Downloading:
    """The bytes of one download. Not for more than one thread at a time; close it.

    Raises:
        FileFailure, OSError: from `take`, it cannot be read; what was taken before is a part.
        Stopped: from `take`, the action is to end.
    """

    def __init__(self, arguments: Download, work: Work) -> None:
        self._path = work.resolve(arguments.path)
        self._form = arguments.form
        self._work = work
        self._packing = Packing(work)
        self._guard = threading.Lock()
        self._pieces: Generator[bytes] = self._tree() if arguments.form == "tree" else self._file()

    def take(self) -> bytes:
        """Return the next bytes; none at the end."""
        gathered: list[bytes] = []
        size = 0
        with self._guard:
            for piece in self._pieces:
                gathered.append(piece)
                size += len(piece)
                if size >= _HOP_BYTES:
                    break
        return b"".join(gathered)

    def close(self) -> None:
        """Close what is open, once nobody takes any more. Idempotent."""
        with self._guard:
            self._pieces.close()

    @property
    def fields(self) -> dict[str, Any]:
        """The observation's fields, once all was taken."""
        packing = self._packing
        return {
            "path": self._path,
            "form": self._form,
            "entries": packing.entries,
            "bytes_read": packing.bytes_read,
            "left_out": packing.left_out,
            "left_out_count": packing.left_out_count,
        }

    def _tree(self) -> Generator[bytes]:
        yield from self._packing.tree(self._path)

    def _file(self) -> Generator[bytes]:
        descriptor, _ = open_regular(self._path)
        try:
            self._packing.entries = 1
            pieces: Iterator[bytes] = chunks(descriptor)
            for piece in self._work.until_stopped(pieces):
                self._packing.bytes_read += len(piece)
                yield piece
        finally:
            os.close(descriptor)
