"""The redacted output of running actions, as it grows: written by the pump, read by any number of followers."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Final, Protocol

import anyio
from anyio import to_thread

__all__ = ["Follower", "LiveOutput", "OutputBoard", "OutputReader"]

STEP_BYTES: Final = 256 << 10
MEMORY_BYTES: Final = 64 << 10
"""An output up to this size never touches the disk a second time."""
ENDED_MAX: Final = 4096

Key = tuple[str, str, str]
"""Tenant, session, action."""


class LiveOutput:
    """The redacted bytes of one action's output so far, in memory while they are few, else in a file.

    Written by one pump; `path` is created when memory is outgrown. Followers read what is there and wait for more.
    """

    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self.path: str | None = None
        self._memory = bytearray()
        self._descriptor = -1
        self._stale: list[int] = []
        self._followers = 0
        self._grown = anyio.Event()

    def begin(self) -> None:
        """Start from nothing: a pump (a new one, after a crash) is about to write. Followers keep their offsets."""
        if self._descriptor >= 0:
            # A follower may be reading from it in a thread: it is closed with the rest, at the end.
            self._stale.append(self._descriptor)
            self._descriptor = -1
        self._memory.clear()
        self.path = None
        self.size = 0

    def append(self, data: bytes, path: str) -> None:
        """Add bytes; they go to the file `path` once memory is outgrown. Blocks; call it in a thread for much.

        Raises:
            OSError: the file cannot be written; nothing was added.
        """
        if self.path is None:
            if self.size + len(data) <= MEMORY_BYTES:
                self._memory += data
                self.size += len(data)
                return
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self.path = path
            self._write(bytes(self._memory), 0)
        self._write(data, self.size)
        self.size += len(data)
        self._memory.clear()

    def _write(self, data: bytes, offset: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._descriptor, view, offset)
            offset += count
            view = view[count:]

    def announce(self) -> None:
        """Wake those who wait for more. On the event loop."""
        grown, self._grown = self._grown, anyio.Event()
        grown.set()

    def peek(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; blocks on the disk when memory was outgrown."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        if self.path is None:
            return bytes(self._memory[offset : offset + length])
        return os.pread(self._descriptor, length, offset)

    def end(self) -> None:
        """Say that nothing more comes. Followers read on to the end from what is kept open for them. Idempotent."""
        self.ended = True
        self.announce()
        if not self._followers:
            self._close()

    @property
    def followed(self) -> bool:
        """Whether anybody reads it."""
        return self._followers > 0

    def join(self) -> None:
        """Count one more follower."""
        self._followers += 1

    def leave(self) -> None:
        """Count one follower less; the last one out after the end frees the file."""
        self._followers -= 1
        if self.ended and not self._followers:
            self._close()

    def _close(self) -> None:
        for descriptor in (self._descriptor, *self._stale):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = -1
        self._stale.clear()

    async def read(self, offset: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `offset`, then what comes, until the end; chunks of at most 256 KiB."""
        while True:
            grown = self._grown
            if offset < self.size:
                if self.path is None:
                    data = self.peek(offset, STEP_BYTES)
                else:
                    data = await to_thread.run_sync(self.peek, offset, STEP_BYTES)
                if data:
                    offset += len(data)
                    yield data
            elif self.ended:
                return
            else:
                await grown.wait()


class Follower:
    """One reader's place at a running action's output; made by `OutputBoard.follow`."""

    def __init__(self, output: LiveOutput) -> None:
        self._output = output

    @property
    def size(self) -> int:
        """Redacted bytes that are there now."""
        return self._output.size

    async def read(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the redacted bytes from `offset`, following live until the action has ended.

        Cancellation: safe; nothing is held beyond the follower itself.
        """
        async for data in self._output.read(offset):
            yield data


class OutputReader(Protocol):
    """What the API asks of whoever runs actions: their output, live."""

    def read(self, tenant: str, session: str, action: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes from `offset`, following live until the action has ended."""
        ...


class OutputBoard:
    """Where followers and pumps meet, by action. In memory; rebuilt from the spools after a restart.

    To serve an action whose end may come at any moment: enter `follow` first, then look for its terminal observation;
    serve that if it is there, else read. An end after `follow` was entered is always seen.
    """

    def __init__(self) -> None:
        self._live: dict[Key, LiveOutput] = {}
        self._pumped: set[Key] = set()
        self._ended: OrderedDict[Key, None] = OrderedDict()

    def begin(self, key: Key) -> LiveOutput:
        """Return the action's output for its pump to write."""
        self._ended.pop(key, None)
        self._pumped.add(key)
        output = self._live.setdefault(key, LiveOutput())
        output.begin()
        return output

    def end(self, key: Key) -> None:
        """Say that the action has its terminal observation, whether it printed or not. Idempotent."""
        self._pumped.discard(key)
        output = self._live.pop(key, None)
        if output is not None:
            output.end()
        self._ended[key] = None
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    @contextmanager
    def follow(self, tenant: str, session: str, action: str) -> Generator[Follower]:
        """Follow an action that has not ended, running or queued."""
        key = (tenant, session, action)
        output = self._live.get(key)
        if output is None:
            output = LiveOutput()
            if key in self._ended:
                output.end()
            else:
                self._live[key] = output
        output.join()
        try:
            yield Follower(output)
        finally:
            output.leave()
            if not output.followed and key not in self._pumped and self._live.get(key) is output:
                del self._live[key]

    async def read(self, tenant: str, session: str, action: str, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the redacted bytes from `offset`, following live; nothing for an action that ended just before.

        Cancellation: safe.
        """
        with self.follow(tenant, session, action) as follower:
            async for data in follower.read(offset):
                yield data
