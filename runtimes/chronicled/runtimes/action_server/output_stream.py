"""Outputs in-band: each action's goes to the worker in frames, in turns, and never further than there is credit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from chronicled.events import faultpoint
from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.backlog import Backlog, SpillRoom
from chronicled.runtimes.action_server.channel import Channel, ConnectionLost
from chronicled.runtimes.action_server.seal import derive, seal_result

__all__ = ["CHUNK_BYTES", "OutputStream", "OutputStreams"]

CHUNK_BYTES: Final = 64 << 10
"""Most output in one frame, and in one turn of an action."""
HOLD_BYTES: Final = 3 << 18
"""With so much on its way, the action is held up: nothing more is read from it until the worker has caught up."""
_GATHER_SECONDS: Final = 0.005
STALL_SECONDS: Final = 1.0
"""A worker that takes nothing for so long counts as away: the action goes on, into a file."""


class OutputStream:
    """The output of one action; an `ActionOutput`.

    Args:
        action: Its id.
        bytes_max: How much to keep.
        streams: Those of all actions.
        room: Where its backlog may spill.
    """

    def __init__(self, action: str, bytes_max: int, streams: OutputStreams, room: SpillRoom) -> None:
        self.action = action
        self.bytes_total = 0
        self.bytes_kept = 0
        self.backlog = Backlog(room)
        self.sent = 0
        """How much went out over the present connection, or one before."""
        self.limit = -1
        """How far the worker lets it go; -1 before it has said so over the present connection."""
        self.result: frames.Result | None = None
        """What to send once everything is out."""
        self.told = False
        """Whether the result went out over the present connection."""
        self._bytes_max = bytes_max
        self._streams = streams
        self._loop = asyncio.get_running_loop()
        self._written_at = 0.0
        self._gathering: asyncio.TimerHandle | None = None
        self._hold: Callable[[bool], None] | None = None
        self._held = False
        self._stall: asyncio.TimerHandle | None = None
        self._stalled = False
        self._free = asyncio.Event()
        self._free.set()

    @property
    def bytes_dropped(self) -> int:
        """How much was not kept."""
        return self.bytes_total - self.bytes_kept

    @property
    def written_at(self) -> float:
        """Loop time of the last byte; now, while the action is held up on our account."""
        return self._loop.time() if self._held else self._written_at

    def write(self, data: memoryview) -> None:
        """Add output; see `ActionOutput.write`."""
        self._written_at = self._loop.time()
        keep = 0 if self.bytes_dropped else min(len(data), self._bytes_max - self.bytes_kept)
        self.bytes_total += len(data)
        if keep <= 0:
            return
        self.bytes_kept += self.backlog.append(data[:keep])
        faultpoint.reached("mid_output")
        if self.bytes_kept - self.sent >= CHUNK_BYTES:
            self._streams.offer(self)
        elif self._gathering is None:
            self._gathering = self._loop.call_later(_GATHER_SECONDS, self._gathered)
        self._weigh()

    def regulate(self, hold: Callable[[bool], None] | None) -> None:
        """See `ActionOutput.regulate`."""
        former, self._hold = self._hold, hold
        if self._held and hold is not None:
            hold(True)
        elif self._held and former is not None:
            former(False)

    async def drain(self) -> None:
        """Wait while the action is held up; see `ActionOutput.drain`."""
        await self._free.wait()

    def close(self) -> None:
        """Say that the action has ended; what it printed is sent on. Idempotent."""
        self._bytes_max = self.bytes_kept
        self._release()
        self._hold = None
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def lose(self, offset: int) -> None:
        """Leave it at the first `offset` bytes, which the worker has: the rest is not here any more, or not wanted."""
        self.backlog.restart(offset)
        self.sent = self.bytes_kept = self._bytes_max = offset

    def proceed(self) -> None:
        """Go on once the worker has taken something, or has gone."""
        self._stalled = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = self._loop.call_later(STALL_SECONDS, self._tire)
        self._weigh()

    def _gathered(self) -> None:
        self._gathering = None
        self._streams.offer(self)

    def _weigh(self) -> None:
        # A file is emptied before anything is added to it: else it would grow as long as the action prints.
        heavy = self.backlog.end - self.backlog.base >= HOLD_BYTES or self.backlog.spilled
        if heavy and self._streams.connected and not self._stalled:
            if not self._held:
                self._held = True
                self._free.clear()
                self._stall = self._loop.call_later(STALL_SECONDS, self._tire)
                if self._hold is not None:
                    self._hold(True)
        else:
            self._release()

    def _tire(self) -> None:
        self._stall = None
        self._stalled = True
        self._release()

    def _release(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._held:
            self._held = False
            self._written_at = self._loop.time()
            self._free.set()
            if self._hold is not None:
                self._hold(False)


class OutputStreams:
    """The outputs of all actions whose result the worker has not settled; sends them over the present connection.

    Args:
        token: The generation's; results are sealed under a key from it.
        room: Where backlogs may spill.
    """

    def __init__(self, token: str, room: SpillRoom) -> None:
        self._key = derive(token, b"result")
        self._room = room
        self._streams: dict[str, OutputStream] = {}
        self._turns: dict[str, OutputStream] = {}
        """Who has something to send and credit for it, in the order of their turns."""
        self._connection: Channel[frames.ToServer] | None = None
        self._window = 0
        self._total = 0
        self._sent = 0

    @property
    def connected(self) -> bool:
        """Whether a worker is there."""
        return self._connection is not None

    def connect(self, connection: Channel[frames.ToServer], welcome: frames.Welcome) -> None:
        """Send over this connection from now on; each action's output once the worker has said from where."""
        self._connection = connection
        self._window, self._total, self._sent = welcome.window_bytes, welcome.window_bytes_sum, 0
        self._turns.clear()
        for stream in self._streams.values():
            stream.limit, stream.told = -1, False
        connection.on_room = self._send

    def disconnect(self) -> None:
        """Keep what is printed from now on; nothing is held up."""
        self._connection = None
        for stream in self._streams.values():
            stream.proceed()

    def begin(self, dispatch: frames.Dispatch) -> OutputStream:
        """Return the output of an action that was just dispatched."""
        stream = OutputStream(dispatch.action, dispatch.output_bytes_max, self, self._room)
        self._streams[dispatch.action] = stream
        stream.limit = self._window
        return stream

    def finish(self, result: frames.Result) -> None:
        """Send the result behind the last byte of its output."""
        stream = self._streams[result.action]
        stream.result = result
        self.offer(stream)

    def resume(self, action: str, offset: int, *, discard: bool = False) -> None:
        """Go on with an action's output where the worker says.

        Raises:
            ProtocolError: the worker says that it has more than there ever was.
        """
        stream = self._streams.get(action)
        if stream is None:
            return
        if offset > stream.backlog.end:
            raise ProtocolError(f"the worker has {offset} bytes of an output of {stream.backlog.end}")
        if discard or offset < stream.backlog.base:
            stream.lose(offset)
        stream.backlog.release(offset)
        stream.sent, stream.limit = offset, offset + self._window
        stream.proceed()
        self.offer(stream)

    def credit(self, credit: frames.Credit) -> None:
        """Take credit.

        Raises:
            ProtocolError: the worker says that it has what was never sent.
        """
        self._total = max(self._total, credit.total)
        stream = self._streams.get(credit.action)
        if stream is not None:
            if credit.written > stream.sent:
                raise ProtocolError(f"the worker has {credit.written} bytes, but was sent {stream.sent}")
            stream.backlog.release(credit.written)
            stream.limit = max(stream.limit, credit.limit)
            stream.proceed()
            self._enter(stream)
        self._send()

    def settle(self, action: str) -> None:
        """Forget an action's output. Idempotent."""
        self._turns.pop(action, None)
        stream = self._streams.pop(action, None)
        if stream is not None:
            stream.close()
            stream.backlog.close()

    def offer(self, stream: OutputStream) -> None:
        """Send what the stream has, in its turn."""
        self._enter(stream)
        self._send()

    def _enter(self, stream: OutputStream) -> None:
        if stream.sent < min(stream.bytes_kept, stream.limit):
            self._turns.setdefault(stream.action, stream)
        elif stream.result is not None and stream.sent == stream.bytes_kept and stream.limit >= 0 and not stream.told:
            self._tell(stream, stream.result)

    def _tell(self, stream: OutputStream, result: frames.Result) -> None:
        if self._connection is not None:
            dropped = stream.bytes_dropped
            if result.output_dropped_bytes != dropped:
                result = msgspec.structs.replace(result, output_dropped_bytes=dropped)
            stream.told = True
            with contextlib.suppress(ConnectionLost):
                self._connection.post(msgspec.structs.replace(result, seal=seal_result(self._key, result)))

    def _send(self) -> None:
        # One frame each in turn, and only while nothing waits before it: whatever else is to be sent comes soon after.
        connection = self._connection
        while self._turns and connection is not None and not connection.unsent_bytes and self._sent < self._total:
            stream = self._turns.pop(next(iter(self._turns)))
            count = min(CHUNK_BYTES, min(stream.limit, stream.bytes_kept) - stream.sent, self._total - self._sent)
            data = stream.backlog.read(stream.sent, count)
            if not data:
                stream.lose(stream.sent)
            try:
                connection.post(frames.OutputData(action=stream.action, offset=stream.sent, data=data))
            except ConnectionLost:
                return
            stream.sent += len(data)
            self._sent += len(data)
            self._enter(stream)
