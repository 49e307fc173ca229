"""The action server: takes dispatched actions, executes each once, keeps every result until it is settled.

It knows nothing of sockets (`dial.py` does) nor of what an action does (executors do). What it guarantees, for the life
of its process, which is the generation: an action id is executed at most once; a result is in the spool before anybody
is told; a connection of a lower fence is refused, and one of a higher fence closes the older ones unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from chronicled.events import faultpoint
from chronicled.events.errors import ProtocolError
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames, process_tree
from chronicled.runtimes.action_server.channel import Channel, ConnectionLost
from chronicled.runtimes.action_server.content import ContentPipe
from chronicled.runtimes.action_server.executor import (
    EARLY_ITEMS_MAX,
    Cause,
    Context,
    Ended,
    Executor,
    ExecutorTable,
    Request,
    error,
)
from chronicled.runtimes.action_server.known import SettledActions
from chronicled.runtimes.action_server.lanes import Lane, LaneTable
from chronicled.runtimes.action_server.output import ActionOutput, OutputSpool
from chronicled.runtimes.action_server.output_stream import OutputStreams
from chronicled.runtimes.action_server.record import ActionDeadline, ActionRecord, result_of
from chronicled.runtimes.action_server.spool import ResultSpool

__all__ = ["ActionServer", "WorkerConnection"]

WorkerConnection = Channel[frames.ToServer]

OPEN_ACTIONS_MAX: Final = 256
"""Actions that may run or wait at once; a worker sends one per lane."""
SPOOL_BYTES_MAX: Final = 8 << 20
"""The result spool is emptied once it is larger and all of it is settled."""
_STOP_SECONDS: Final = 5.0
_STOP_SECONDS_SLOW: Final = 30.0
"""Where a kernel of its own (gVisor) shares a busy machine, to end hundreds of processes takes its time."""
_STARTED_SECONDS: Final = 0.002


class ActionServer:
    """All actions of one generation.

    Args:
        executors: What runs which kind.
        working_directory: Where each lane starts.
        ended: Called when the worker asks for the end of the generation.
        streams: Outputs, where they go in-band.
        set_variables: Takes variables of the session for every lane; returns the names that nobody could use.
    """

    def __init__(
        self,
        executors: ExecutorTable,
        working_directory: str,
        ended: Callable[[], None],
        streams: OutputStreams,
        set_variables: Callable[[Mapping[str, str | None]], Sequence[str]] = lambda _: (),
    ) -> None:
        self.fence = 0
        self.transfer: frames.Transfer | None = None
        """The way of transfer, once a worker has chosen it."""
        self._streams = streams
        self._executors = executors
        self._set_variables = set_variables
        self._ended = ended
        self.lanes = LaneTable(working_directory)
        self._running: dict[str, ActionRecord] = {}
        self._done: dict[str, frames.Result] = {}
        self._settled = SettledActions()
        self._offsets: dict[str, int] = {}
        self._places: dict[str, tuple[str, int]] = {}
        """Lane and position of what is done."""
        self._spool: ResultSpool | None = None
        self._connection: WorkerConnection | None = None
        self._loop = asyncio.get_running_loop()

    def adopt(self, connection: WorkerConnection, welcome: frames.Welcome, spool: int | None) -> None:
        """Take a welcomed connection: older ones close unread, results that nobody has settled are sent again.

        In-band they are sent once the worker has said how much of each output it has.

        Args:
            connection: Where frames go from now on.
            welcome: The worker's; its fence is not lower than any before (the caller has checked).
            spool: Descriptor of the generation's result spool; None in-band.

        Raises:
            OSError: the spool cannot be read; the connection is not adopted.
        """
        replaced = spool is not None and (self._spool is None or not self._spool.is_same_file(spool))
        following = ResultSpool(spool) if replaced and spool is not None else None
        if self._connection is not None:
            self._connection.close()
        self.fence = welcome.fence
        self.transfer = welcome.transfer
        if following is not None:
            if self._spool is not None:
                self._spool.close()
            self._spool = following
            self._offsets = {action: self._keep(result) for action, result in self._done.items()}
            self._settled.forget_offsets()
        elif spool is not None:
            os.close(spool)
        self._connection = connection
        if welcome.transfer == "inband":
            self._streams.connect(connection, welcome)
            return
        for result in self._done.values():
            self.post(result)

    async def serve(self, connection: WorkerConnection) -> None:
        """Take frames from an adopted connection until it is lost, or replaced by another.

        Raises:
            ConnectionLost: it is gone.
            ProtocolError: the worker sent what it must not; the connection is closed.
        """
        try:
            while True:
                frame, descriptors = await connection.receive()
                if connection is not self._connection:
                    _close(descriptors)
                    raise ConnectionLost("a worker with a higher fence has taken over")
                self._take(frame, descriptors)
                if connection.unsent_bytes:
                    await connection.drain()
        finally:
            connection.close()
            if self._connection is connection:
                self._connection = None
                self._streams.disconnect()

    def post(self, frame: frames.Frame) -> None:
        """Send to the worker if one is there; what only informs is dropped when the worker does not keep up."""
        if self._connection is None:
            return
        if self._connection.unsent_bytes and isinstance(frame, frames.Output | frames.Background):
            return
        with contextlib.suppress(ConnectionLost):
            self._connection.post(frame)

    async def close(self) -> None:
        """Stop everything; the reaper kills what is left."""
        tasks = [record.task for record in self._running.values() if record.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        await self._executors.close()

    def _take(self, frame: frames.ToServer, descriptors: list[int]) -> None:
        if isinstance(frame, frames.Dispatch):
            self._dispatch(frame, descriptors)
            return
        _close(descriptors)
        match frame:
            case frames.Settle():
                self._settle(frame.action)
            case frames.Cancel():
                self._end(frame.action, Cause(Outcome.CANCELLED))
            case frames.Query():
                self.post(frames.Status(running=list(self._running), done=list(self._done)))
                if self.transfer == "descriptors":
                    for action, record in self._running.items():
                        self.post(frames.Output(action=action, size=record.output.bytes_kept))
                for action, record in self._running.items():
                    if record.awaits_input:
                        self.post(frames.Waiting(action=action, waiting=True))
            case frames.Interrupt():
                if 0 < frame.signal < 65:
                    self._give(frame.action, frame.signal)
            case frames.Input():
                self._give(frame.action, frame.data)
            case frames.Environment():
                if refused := self._set_variables(frame.variables):
                    with contextlib.suppress(OSError):
                        os.write(2, f"variables that nobody can use: {refused}\n".encode())
            case frames.Credit():
                self._streams.credit(frame)
            case frames.Resume():
                self._resume(frame.action, frame.offset, discard=frame.discard)
            case frames.ContentData():
                receiver = self._running.get(frame.action)
                if receiver is not None and receiver.pipe is not None:
                    receiver.pipe.take(frame)
            case frames.Shutdown():
                self._ended()
            case _:
                raise ProtocolError(f"a {type(frame).__name__} frame has no place in an open connection")

    def _give(self, action: str, item: bytes | int) -> None:
        record = self._running.get(action)
        if record is None:
            return
        record.awaits_input = False
        if record.context is not None:
            record.context.give(item)
        elif len(record.early) < EARLY_ITEMS_MAX:
            record.early.append(item)

    def _end(self, action: str, cause: Cause) -> None:
        record = self._running.get(action)
        if record is None or record.task is None:
            return
        if record.context is None:
            if record.cause is None:
                record.cause = cause
                if record.waits:
                    record.task.cancel()
        elif record.context.cause is None:
            record.context.end(cause, record.task)
            seconds = _STOP_SECONDS_SLOW if process_tree.orphans_leave() else _STOP_SECONDS
            self._loop.call_later(seconds, record.task.cancel)

    def _dispatch(self, dispatch: frames.Dispatch, descriptors: list[int]) -> None:
        if dispatch.fence < self.fence:
            _close(descriptors)
            self.post(frames.Refusal(code="stale-fence", message=f"fence {self.fence} has taken over"))
            raise ProtocolError(f"dispatch under fence {dispatch.fence}, but {self.fence} has taken over")
        if self._answer_known(dispatch):
            _close(descriptors)
            if dispatch.output_offset >= 0:
                self._resume(dispatch.action, dispatch.output_offset)
            return
        wanted = 0 if self.transfer == "inband" else 1 if dispatch.content_bytes is None else 2
        if len(descriptors) != wanted:
            _close(descriptors)
            raise ProtocolError("a dispatch must bring the descriptors of its output spool and of its content")
        request = Request(
            action=dispatch.action,
            lane=dispatch.lane,
            kind=dispatch.kind,
            version=dispatch.version,
            payload=dispatch.payload,
            timeout_seconds=dispatch.timeout_seconds,
            quiet_seconds=dispatch.quiet_seconds,
            position=dispatch.position,
        )
        action = dispatch.action
        record = self._running[action] = ActionRecord(request, self._output(dispatch, descriptors))
        if dispatch.content_bytes is not None and wanted:
            record.content = descriptors[1]
        elif dispatch.content_bytes is not None:
            record.pipe = ContentPipe(action, dispatch.content_bytes, self.post)
            record.content = record.pipe.reader
        faultpoint.reached("dispatch_to_start")
        record.task = self._loop.create_task(self._run(record))

    def _output(self, dispatch: frames.Dispatch, descriptors: list[int]) -> ActionOutput:
        if self.transfer == "inband":
            return self._streams.begin(dispatch)
        action = dispatch.action
        return OutputSpool(
            descriptors[0], dispatch.output_bytes_max, lambda size: self.post(frames.Output(action=action, size=size))
        )

    def _resume(self, action: str, offset: int, *, discard: bool = False) -> None:
        if self.transfer == "inband":
            self._streams.resume(action, offset, discard=discard)
            record = self._running.get(action)
            if record is not None and record.pipe is not None:
                record.pipe.resume()

    def _answer_known(self, dispatch: frames.Dispatch) -> bool:
        action = dispatch.action
        if action in self._running:
            self.post(frames.Status(running=list(self._running), done=list(self._done)))
            return True
        if action in self._done:
            if self.transfer == "descriptors":
                self.post(self._done[action])
            return True
        if self._settled.knows(action, dispatch.lane, dispatch.position):
            offset = self._settled.offset(action)
            result = self._spool.read(offset) if self._spool and offset >= 0 else None
            if result is not None:
                self.post(result)
            else:
                self.post(frames.Status(running=list(self._running), done=list(self._done)))
            return True
        return False

    async def _run(self, record: ActionRecord) -> None:
        request = record.request
        begun = time.monotonic()
        try:
            ended = await self._take_turn(record)
        except asyncio.CancelledError:
            cause = record.cause or (record.context.cause if record.context is not None else None)
            if cause is None:
                # The generation ends: no result is the truth.
                record.close()
                raise
            ended = Ended(outcome=cause.outcome, effects=Effects.POSSIBLE)
        except Exception as problem:
            ended = Ended(
                outcome=Outcome.FAILED,
                effects=Effects.POSSIBLE,
                reason="executor_failed",
                message=f"the executor of {request.kind} failed: {type(problem).__name__}: {problem}",
            )
        self._finish(record, result_of(record, ended, time.monotonic() - begun))

    async def _take_turn(self, record: ActionRecord) -> Ended:
        request = record.request
        if record.cause is not None:
            return Ended(outcome=record.cause.outcome, effects=Effects.NONE)
        record.waits = True
        executor = self._executors.find(request.kind)
        if executor is None:
            return error("no_executor", f"nothing in this sandbox executes actions of kind {request.kind!r}")
        if len(self._running) > OPEN_ACTIONS_MAX:
            return error("overloaded", f"more than {OPEN_ACTIONS_MAX} actions are open in this sandbox")
        if self._settled.full:
            return error(
                "overloaded", "this sandbox has executed all that it can remember: restart the session's sandbox"
            )
        lane = self.lanes.enter(request.lane)
        try:
            return await self._execute(record, executor, lane)
        finally:
            self.lanes.leave(lane)

    async def _execute(self, record: ActionRecord, executor: Executor, lane: Lane) -> Ended:
        request = record.request
        async with lane.turn:
            timers = self._set_deadlines(record)
            context = Context(
                lane.state, record.output, lambda: timers.append(self._announce(request.action)), record.early
            )
            context.content = record.content
            context.tell_waiting = partial(self._tell_waiting, record)
            record.context = context
            try:
                return await executor.execute(request, context)
            finally:
                for timer in timers:
                    timer.cancel()

    def _tell_waiting(self, record: ActionRecord, waiting: bool) -> None:
        record.awaits_input = waiting
        self.post(frames.Waiting(action=record.request.action, waiting=waiting))

    def _announce(self, action: str) -> asyncio.TimerHandle:
        # What is over at once needs no announcement: its result says that it ran, and two wake-ups are saved.
        return self._loop.call_later(_STARTED_SECONDS, lambda: self.post(frames.Started(action=action)))

    def _set_deadlines(self, record: ActionRecord) -> list[ActionDeadline | asyncio.TimerHandle]:
        request, timers = record.request, list[ActionDeadline | asyncio.TimerHandle]()
        if request.timeout_seconds is not None:
            timers.append(ActionDeadline(self._end, record, "command", request.timeout_seconds))
        if request.quiet_seconds is not None:
            timers.append(ActionDeadline(self._end, record, "quiet", request.quiet_seconds))
        return timers

    def _finish(self, record: ActionRecord, result: frames.Result) -> None:
        record.close()
        faultpoint.reached("result_to_spool")
        self._running.pop(result.action, None)
        self._done[result.action] = result
        self._places[result.action] = (record.request.lane, record.request.position)
        if self.transfer == "inband":
            # Its spool is this process's memory, which dies with the generation as any file in a sandbox would.
            self._streams.finish(result)
            return
        self._offsets[result.action] = self._keep(result)
        self.post(result)

    def _keep(self, result: frames.Result) -> int:
        """Write a result into the spool; return its offset, -1 where that failed."""
        try:
            return -1 if self._spool is None else self._spool.append(result)
        except OSError as problem:
            # A full disk: the worker still gets it over the connection, again and again until it is settled.
            # To say so may fail as well, for the same reason, and must not cost the result.
            with contextlib.suppress(OSError):
                os.write(2, f"result of {result.action} is not in the spool: {problem}\n".encode())
            return -1

    def _settle(self, action: str) -> None:
        if self._done.pop(action, None) is None:
            return
        self._settled.add(action, *self._places.pop(action), self._offsets.pop(action, -1))
        self._streams.settle(action)
        if not self._done and self._spool is not None and self._spool.bytes_total > SPOOL_BYTES_MAX:
            # Everything in it is in the log by now.
            self._spool.clear()
            self._settled.forget_offsets()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
