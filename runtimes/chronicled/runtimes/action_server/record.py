"""One action in the server: from its dispatch until its result is made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

import msgspec

from chronicled.events.limits import FRAME_BYTES_MAX
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.action_server.content import ContentPipe
from chronicled.runtimes.action_server.executor import Cause, Context, Ended, Request
from chronicled.runtimes.action_server.output import ActionOutput
from chronicled.runtimes.action_server.seal import SEAL_BYTES

__all__ = ["ActionDeadline", "ActionRecord", "result_of"]

_SEAL_FIELD_BYTES: Final = 64
"""Room in a frame for what says that a seal, and other dropped bytes, come with it."""


class ActionRecord:
    """One action from its dispatch until it is done."""

    def __init__(self, request: Request, output: ActionOutput) -> None:
        self.request = request
        self.output = output
        self.content: int | None = None
        """Descriptor of what came with it, the record's to close."""
        self.pipe: ContentPipe | None = None
        """Where its content comes in-band."""
        self.context: Context | None = None
        self.task: asyncio.Task[None] | None = None
        self.cause: Cause | None = None
        """Why it is to end, before its turn has come."""
        self.early: list[bytes | int] = []
        """What was typed to it, and which signals it was sent, before its turn has come."""
        self.awaits_input = False
        """The worker was told that it waits for somebody to type."""
        self.waits = False
        """Its task has begun; a task that is cancelled before that would end without a word."""

    def close(self) -> None:
        """Close what it was dispatched with."""
        self.output.close()
        if self.pipe is not None:
            self.pipe.close()
        elif self.content is not None:
            os.close(self.content)
        self.content = None


class ActionDeadline:
    """Ends an action once it has run, or been quiet, for too long."""

    def __init__(self, end: Callable[[str, Cause], None], record: ActionRecord, name: str, seconds: float) -> None:
        self._end, self._record, self._name, self._seconds = end, record, name, seconds
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._fire)

    def cancel(self) -> None:
        """Do not end the action any more."""
        self._timer.cancel()

    def _fire(self) -> None:
        if self._name == "quiet":
            last = max(self._begun, self._record.output.written_at)
            if self._loop.time() < last + self._seconds:
                self._timer = self._loop.call_at(last + self._seconds, self._fire)
                return
            message = f"It printed nothing for {self._seconds:g} s, its quiet deadline."
        else:
            message = f"It was not over within {self._seconds:g} s, its {self._name} deadline."
        self._end(self._record.request.action, Cause(Outcome.TIMEOUT, self._name, message))


def result_of(record: ActionRecord, ended: Ended, seconds: float) -> frames.Result:
    """Return the result of an action that has ended after so many seconds; one that a frame can hold."""
    context = record.context
    cause = record.cause or (context.cause if context is not None else None)
    started = context is not None and context.started
    outcome, effects, deadline, message = ended.outcome, ended.effects, None, ended.message
    if cause is not None and outcome not in (Outcome.ERROR, Outcome.REJECTED):
        outcome, deadline, message = cause.outcome, cause.deadline, ended.message or cause.message
        effects = Effects.POSSIBLE if started else Effects.NONE
    result = frames.Result(
        action=record.request.action,
        outcome=outcome,
        effects=effects,
        reason=ended.reason,
        message=message,
        deadline=deadline,
        duration_seconds=round(seconds, 6) if started else None,
        output_bytes=record.output.bytes_total,
        output_dropped_bytes=record.output.bytes_dropped,
        state_lost=ended.state_lost,
        fields=ended.fields,
    )
    if not result.fields and message is None:
        return result
    try:
        size = len(msgspec.msgpack.encode(result))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        # Text that is none, say: an executor's mistake must not cost the result.
        return msgspec.structs.replace(result, fields={}, message=f"the result cannot be told: {problem}"[:500])
    if size > FRAME_BYTES_MAX - SEAL_BYTES - _SEAL_FIELD_BYTES:
        return msgspec.structs.replace(result, fields={}, message="the result was too large")
    return result
