"""The worker's half of the in-band transfer: what comes in frames ends in the same files as with descriptors.

Everything here is checked, since a hostile sandbox may send it: an output has no gap and no overlap, stays within the
credit that was given, and belongs to an action that was sent over this link; a result bears the server's seal and
follows the whole of its output. What breaks a rule ends the link. Memory is bounded by the credit.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.frames import (
    ContentCredit,
    Credit,
    Dispatch,
    Output,
    OutputData,
    Result,
    Resume,
    Settle,
    Status,
    ToServer,
    ToWorker,
    Welcome,
)
from chronicled.runtimes.action_server.seal import derive, seal_result
from chronicled.runtimes.action_server.spool import ResultSpool
from chronicled.runtimes.worker.content_sender import ContentSender
from chronicled.runtimes.worker.descriptors import Descriptors

__all__ = ["WINDOW_BYTES", "WINDOW_BYTES_SUM", "InbandTransfer"]

WINDOW_BYTES: Final = 512 << 10
"""How much of one action's output may be on its way."""
WINDOW_BYTES_SUM: Final = 2 << 20
"""How much of all outputs of a sandbox may be on its way."""
INLINE_BYTES: Final = 16 << 10
"""Up to so much is written on the event loop: a thread costs more."""
ACTIONS_MAX: Final = 4096
"""Actions of one link whose bytes are not over."""
ID_CHARS_MAX: Final = 64

Post = Callable[[ToServer], None]


class _Intake:
    """One action's output on its way into its spool."""

    def __init__(self, descriptor: int | None, offset: int) -> None:
        self.descriptor = descriptor
        """None where the output is not wanted."""
        self.written = offset
        self.received = offset
        self.limit = offset + WINDOW_BYTES
        self.credited = offset
        self.ended = False
        """Its result was received."""
        self.full = False
        """The spool took no more; what came after that is dropped."""

    def store(self, descriptor: int, data: bytes) -> None:
        """Write the next bytes; what a full disk refuses is dropped, and all after it."""
        view = memoryview(data)
        try:
            while view and not self.full:
                count = os.pwrite(descriptor, view, self.written)
                self.written += count
                view = view[count:]
        except OSError:
            self.full = True


class InbandTransfer:
    """Outputs, results and contents of one link.

    Args:
        post: Sends a frame; never waits, never raises.
        token: The generation's.
        results: Descriptor of the generation's result spool; its own from now on.
    """

    def __init__(self, post: Post, token: str, results: int) -> None:
        self.ready: deque[ToWorker] = deque()
        """Frames for whoever receives from the link."""
        self._post = post
        self._key = derive(token, b"result")
        self._results = ResultSpool(results)
        self._intakes: dict[str, _Intake] = {}
        self._descriptors = Descriptors()
        self._contents = ContentSender(post, self._descriptors)
        self._unheard: list[str] = []
        self._received = 0
        self._credited = 0
        self._closed = False

    @staticmethod
    def welcome(welcome: Welcome) -> Welcome:
        """Return the welcome with the credit that everything begins with."""
        return msgspec.structs.replace(welcome, window_bytes=WINDOW_BYTES, window_bytes_sum=WINDOW_BYTES_SUM)

    # -- to the server ---------------------------------------------------------------------------------------------

    def send(self, frame: ToServer, descriptor: int | None, content: int | None) -> None:
        """Send a frame; what comes with it is kept here (as copies) and goes, or is filled, in-band."""
        if isinstance(frame, Dispatch) and descriptor is not None:
            # Sent again over the same link it changes nothing: what is on its way is not to be sent twice.
            known = frame.action in self._intakes
            offset = -1 if known else self._begin(frame.action, descriptor)
            frame = msgspec.structs.replace(frame, output_offset=offset)
            if not known:
                self._contents.add(frame.action, content)
        elif isinstance(frame, Resume):
            if frame.action in self._intakes:
                self._contents.bring(frame.action, content)
                return
            if descriptor is not None:
                frame = msgspec.structs.replace(frame, offset=self._begin(frame.action, descriptor))
            else:
                self._intakes[frame.action] = _Intake(None, 0)
                frame = Resume(action=frame.action, offset=0, discard=True)
            self._contents.add(frame.action, content, follows=frame.content_follows)
        elif isinstance(frame, Settle):
            self._forget(frame.action)
        self._post(frame)

    def _begin(self, action: str, descriptor: int) -> int:
        copy = os.dup(descriptor)
        offset = os.fstat(copy).st_size
        self._intakes[action] = _Intake(copy, offset)
        return offset

    def _forget(self, action: str) -> None:
        intake = self._intakes.get(action)
        if intake is not None and intake.ended:
            self._drop_intake(action)
        elif intake is not None:
            # Settled by what is in the result spool: something of it may still be on its way.
            self._close(intake)
        self._contents.drop(action)

    # -- from the server -------------------------------------------------------------------------------------------

    async def take(self, frame: ToWorker, following: Callable[[], ToWorker | None]) -> None:
        """Take a frame of the server, and those that are here already as long as they are outputs too.

        What is for the session comes into `ready`, in the order in which it came.

        Args:
            frame: The frame.
            following: Returns the next frame if it is here already.

        Raises:
            ProtocolError: the frame breaks a rule; the link must end.

        Cancellation: takes effect after what was received is written.
        """
        batch: list[OutputData] = []
        following_frame: ToWorker | None = frame
        while isinstance(following_frame, OutputData):
            batch.append(self._judge(following_frame))
            following_frame = following()
        if batch:
            await self._write(batch)
        if self._closed:
            return  # while it was written
        if isinstance(following_frame, ContentCredit):
            await self._contents.take(following_frame, known=following_frame.action in self._intakes)
        elif following_frame is not None:
            self._pass(following_frame)

    def _judge(self, data: OutputData) -> OutputData:
        intake = self._intakes.get(data.action)
        if intake is None or intake.ended:
            raise ProtocolError("Output came of an action that does not run over this link.")
        self._received += len(data.data)
        if data.offset != intake.received or not data.data:
            raise ProtocolError(f"Output came for offset {data.offset}, not for {intake.received}.")
        intake.received += len(data.data)
        if intake.received > intake.limit or self._received > self._credited + WINDOW_BYTES_SUM:
            raise ProtocolError("More output came than there was credit for.")
        return data

    async def _write(self, batch: list[OutputData]) -> None:
        # With the descriptors as they are now: an action may be settled while a thread is at it.
        writes: list[tuple[_Intake, int, bytes]] = []
        for data in batch:
            intake = self._intakes[data.action]
            if intake.descriptor is not None:
                writes.append((intake, intake.descriptor, data.data))
        if sum(len(data.data) for data in batch) <= INLINE_BYTES:
            _store(writes)
        else:
            await self._descriptors.use(_store, writes)
        for action in dict.fromkeys(data.action for data in batch):
            written = self._intakes.get(action)
            if written is not None:
                self._credit(action, written)
                self.ready.append(Output(action=action, size=written.written))

    def _credit(self, action: str, intake: _Intake) -> None:
        # By what was received: what a full disk has dropped is out of the way too.
        due = intake.received - intake.credited >= WINDOW_BYTES // 4
        if due or self._received - self._credited >= WINDOW_BYTES_SUM // 4:
            intake.credited, intake.limit = intake.received, intake.received + WINDOW_BYTES
            self._credited = self._received
            total = self._credited + WINDOW_BYTES_SUM
            self._post(Credit(action=action, written=intake.received, limit=intake.limit, total=total))

    def _pass(self, frame: ToWorker) -> None:
        match frame:
            case Result():
                self._end(frame)
                return
            case Status():
                self._note_unheard(frame)
            case Output():
                raise ProtocolError("A notice of a spool came that the server does not have.")
            case _:
                pass
        self.ready.append(frame)

    def _end(self, result: Result) -> None:
        intake = self._intakes.get(result.action)
        if intake is None or intake.ended:
            raise ProtocolError("A result came of an action that does not run over this link.")
        if not hmac.compare_digest(result.seal, seal_result(self._key, result)):
            raise ProtocolError("A result came without the seal of its server.")
        if intake.descriptor is not None and result.output_bytes - result.output_dropped_bytes != intake.received:
            raise ProtocolError("A result came that does not agree with its output.")
        if intake.full:
            result = msgspec.structs.replace(result, output_dropped_bytes=result.output_bytes - intake.written)
        # From here on it is known however the link or the server end; on a full disk the log is all there is.
        with contextlib.suppress(OSError):
            self._results.append(result)
        intake.ended = True
        self._close(intake)
        self._contents.drop(result.action)
        self.ready.append(result)

    def _note_unheard(self, status: Status) -> None:
        # Whoever receives the status takes up what is still open before it receives again; the rest is not wanted.
        actions = [*status.running, *status.done]
        if len(actions) + len(self._intakes) > ACTIONS_MAX or any(len(action) > ID_CHARS_MAX for action in actions):
            raise ProtocolError("The server claims to run what nobody can have sent.")
        self._unheard = [action for action in actions if action not in self._intakes]

    def resume_unheard(self) -> None:
        """Ask how those actions ended which the server has told of and nobody has taken up: before each receiving."""
        for action in self._unheard:
            if action not in self._intakes:
                self.send(Resume(action=action, offset=0), None, None)
        self._unheard = []

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        for action in list(self._intakes):
            self._drop_intake(action)
        self._contents.close()
        if not self._closed:
            self._closed = True
            self._results.close()

    def _drop_intake(self, action: str) -> None:
        intake = self._intakes.pop(action, None)
        if intake is not None:
            self._close(intake)

    def _close(self, intake: _Intake) -> None:
        if intake.descriptor is not None:
            self._descriptors.close(intake.descriptor)
            intake.descriptor = None


def _store(writes: list[tuple[_Intake, int, bytes]]) -> None:
    for intake, descriptor, data in writes:
        intake.store(descriptor, data)
