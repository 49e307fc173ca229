"""Ending a flight: its output is completed, its observation published, its spool freed, in this order."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from chronicled.events import faultpoint
from chronicled.events.blobs import BlobRef
from chronicled.events.envelope import Draft, Event
from chronicled.events.errors import ActionEnded
from chronicled.events.kinds.lifecycle import LaneRestarted, SessionClosed
from chronicled.events.outcome import Deadline, Effects, Outcome
from chronicled.runtimes.action_server.frames import Result, Settle
from chronicled.runtimes.output.live import MEMORY_BYTES
from chronicled.runtimes.output.pump import Pump
from chronicled.runtimes.output.summary import OutputSummary, excerpt, whole
from chronicled.runtimes.worker.burial import OUT_OF_MEMORY
from chronicled.runtimes.worker.flight import Flight
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.observation import Ending, of_result, prints

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Collector"]

LOST_AT_ONCE_MAX: Final = 100
"""Most ends of one append."""


class Collector:
    """Makes the terminal observations of one session's flights."""

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._context = session.context

    async def collect(self, generation: Generation, flight: Flight, result: Result) -> None:
        """End the flight with what its action server said. Raises as `Publisher`."""
        result = self._session.publisher.clean(result)
        kept = max(0, result.output_bytes - result.output_dropped_bytes)
        ending = self._named(await _proven(of_result(result, generation.id), generation, flight))
        output = await self._output(flight, kept, max(0, result.output_dropped_bytes))
        drafts: list[Draft] = []
        if result.state_lost:
            # Before the observation: who sees the lane free also sees that its state is gone.
            lost = LaneRestarted(generation=generation.id, reason=result.reason or "")
            drafts.append(self._session.publisher.lifecycle("lane_restarted", lost, lane=flight.event.lane))
        drafts.append(await self._session.publisher.terminal(flight.event, ending, output))
        faultpoint.reached("spool_to_append")
        try:
            await self._session.publisher.publish(drafts)
        except ActionEnded:
            if len(drafts) > 1:
                await self._session.publisher.publish(drafts[:1])
            event, said = flight.event, ending.message or ""
            await self._session.publisher.late_result(event.id, event.lane, ending.outcome, said)
        generation.send(Settle(action=flight.event.id))
        self._free(generation, flight)

    async def lose(self, generation: Generation, flight: Flight, ending: Ending) -> None:
        """End the flight without a result, keeping what it printed. Raises as `Publisher`."""
        await self._publish_lost([await self.lost(flight, ending)])
        self._free(generation, flight)

    async def lost(self, flight: Flight, ending: Ending) -> Draft:
        """Return the draft of its end without a result, with what it printed. Raises as `Publisher`."""
        output = await self._output(flight, None, 0)
        return await self._session.publisher.terminal(flight.event, self._named(ending), output)

    async def lose_all(
        self, generation: Generation, lost: Sequence[tuple[Flight, Draft]], over: Draft
    ) -> tuple[Event, ...]:
        """End the flights of a generation that is over, and the generation with the last of them, in one append.

        Who sees such an end also sees that the state is gone: what he submits next was accepted after the loss. Raises
        as `Publisher`.
        """
        drafts = [draft for _, draft in lost]
        while len(drafts) >= LOST_AT_ONCE_MAX:
            await self._publish_lost(drafts[:LOST_AT_ONCE_MAX])
            del drafts[:LOST_AT_ONCE_MAX]
        events = await self._publish_lost(drafts, over)
        for flight, _ in lost:
            self._free(generation, flight)
        return events

    async def _publish_lost(self, drafts: Sequence[Draft], *over: Draft) -> tuple[Event, ...]:
        if drafts:
            faultpoint.reached("spool_to_append")
        publish = self._session.publisher.publish
        try:
            return await publish([*drafts, *over])
        except ActionEnded:
            # Somebody else has ended one of them.
            for draft in drafts:
                with contextlib.suppress(ActionEnded):
                    await publish([draft])
            return await publish(over) if over else ()

    def _named(self, ending: Ending) -> Ending:
        # An action that a session's life deadline ended was cancelled by us: name the deadline.
        closed = self._session.fold.closed
        if ending.outcome == Outcome.CANCELLED and closed is not None:
            payload = self._context.codec.decode(closed)
            if isinstance(payload, SessionClosed) and payload.reason == "life_deadline":
                return msgspec.structs.replace(
                    ending, outcome=Outcome.TIMEOUT, effects=Effects.POSSIBLE, deadline=Deadline.LIFE
                )
            return msgspec.structs.replace(ending, reason=ending.reason or "session_closed")
        return ending

    async def _output(self, flight: Flight, kept: int | None, dropped: int) -> OutputSummary:
        pump = flight.pump
        printed = prints(self._context.codec.registry.terminal_of(flight.event.kind, flight.event.version))
        if kept != 0:
            await pump.finish(kept)
        size = pump.live.size
        if not size:
            return OutputSummary(output_bytes=dropped, output_dropped_bytes=dropped, truncated=dropped > 0)
        data = pump.live.peek(0, MEMORY_BYTES) if pump.live.path is None else None
        # What is not printed shows nowhere in the observation, so that a blob must have it.
        shown = None if data is None or not printed else whole(data)
        text = shown[0] if shown is not None else excerpt(bytes(pump.head), pump.tail, size) if printed else ""
        blob = None
        if shown is None or not shown[1]:
            blob = await self._keep(pump, data, size)
        return OutputSummary(
            output=text,
            output_bytes=size + dropped,
            output_digest=pump.digest,
            output_blob=blob is not None,
            output_dropped_bytes=dropped,
            truncated=dropped > 0 or (shown is None and printed),
            output_index=pump.index,
        )

    async def _keep(self, pump: Pump, data: bytes | None, size: int) -> BlobRef:
        publisher = self._session.publisher
        if data is not None:
            return await publisher.put_blob(data)
        return await publisher.adopt_blob(pump.path, pump.digest, size)

    def _free(self, generation: Generation, flight: Flight) -> None:
        action = flight.event.id
        self._session.land(flight, heard=True)
        self._context.journal.forget(generation.id, [action, *flight.sent])
        for path in (self._context.directories.action_spool(generation.id, action), flight.pump.live.path):
            if path is not None:
                # The output file is a blob by now; it is only left here when somebody else ended the action.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)


async def _proven(ending: Ending, generation: Generation, flight: Flight) -> Ending:
    """Return the ending with its signal explained, where a kill is proven to be the kernel's, for want of memory."""
    code, number = ending.fields.get("exit_code"), ending.fields.get("signal")
    if (
        generation.sandbox is None
        or flight.memory_mark is None
        or not (code == 128 + signal.SIGKILL or number == signal.SIGKILL)
    ):
        return ending
    if ending.outcome not in {Outcome.FAILED, Outcome.KILLED}:
        return ending
    if not await generation.sandbox.ran_out_of_memory(flight.memory_mark):
        return ending
    return msgspec.structs.replace(
        ending,
        outcome=Outcome.OOM_KILLED,
        effects=Effects.POSSIBLE,
        reason=OUT_OF_MEMORY,
        message="The sandbox ran out of memory, and the kernel killed a process of this action.",
    )
