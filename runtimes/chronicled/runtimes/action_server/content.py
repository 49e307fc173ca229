"""The content that comes with an action (an upload): its executor reads a descriptor, by whichever way it came here.

With descriptors it is the worker's own file. In-band it is a pipe, filled from frames as far as credit was given.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.frames import ContentCredit, ContentData

__all__ = ["WINDOW_BYTES", "ContentPipe"]

WINDOW_BYTES: Final = 256 << 10
"""How much of one content may be on its way, or wait here until the executor reads it."""


class ContentPipe:
    """A content that comes in frames.

    The pipe ends early, before `size` bytes, if the worker has lost the rest: who reads it compares.

    Args:
        action: Whose it is.
        size: How much is to come.
        grant: Sends credit to the worker, if one is there.
    """

    def __init__(self, action: str, size: int, grant: Callable[[ContentCredit], None]) -> None:
        self._action = action
        self._size = size
        self._grant = grant
        self._loop = asyncio.get_running_loop()
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)
        """For the executor; closed by `close`."""
        os.set_blocking(self._writer, False)
        self._buffer = bytearray()
        self._received = 0
        self._limit = 0
        self._writing = False
        self._extend()

    def take(self, frame: ContentData) -> None:
        """Take the next bytes.

        Raises:
            ProtocolError: they are not the next ones, or were not asked for.
        """
        if frame.offset != self._received or self._received + len(frame.data) > self._limit:
            raise ProtocolError(f"content of {self._action} at {frame.offset}, not within its credit")
        self._received += len(frame.data)
        if not frame.data:
            self._size = self._received
        if self._writer >= 0:
            self._buffer += frame.data
            self._write()

    def resume(self) -> None:
        """Tell the worker, over a new connection, from where to go on."""
        self._limit = min(self._size, self._received + WINDOW_BYTES - len(self._buffer))
        self._tell()

    def close(self) -> None:
        """Close the pipe: whoever still reads finds its end. Idempotent."""
        self._end()
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def _write(self) -> None:
        try:
            while self._buffer:
                del self._buffer[: os.write(self._writer, self._buffer)]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._writer, self._write)
        except OSError:
            # Nobody reads any more: the action is about to end.
            self._end()
            return
        if not self._buffer and self._received >= self._size:
            self._end()
        elif not self._buffer and self._writing:
            self._writing = False
            self._loop.remove_writer(self._writer)
        self._extend()

    def _extend(self) -> None:
        limit = min(self._size, self._received + WINDOW_BYTES - len(self._buffer))
        if self._writer >= 0 and (limit - self._limit >= WINDOW_BYTES // 2 or limit == self._size > self._limit):
            self._limit = limit
            self._tell()
        elif self._size == 0:
            self._end()

    def _tell(self) -> None:
        self._grant(ContentCredit(action=self._action, taken=self._received, limit=self._limit))

    def _end(self) -> None:
        self._buffer.clear()
        if self._writer >= 0:
            if self._writing:
                self._loop.remove_writer(self._writer)
            os.close(self._writer)
            self._writer = -1
