"""Burying a generation that is proven dead: what was sent to it is ended truly, then its books are closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio
import structlog
from anyio import to_thread

from chronicled.events.envelope import Draft
from chronicled.events.errors import SandboxUnreachable
from chronicled.events.kinds.lifecycle import GenerationEnded, SandboxRemoved
from chronicled.events.outcome import Deadline, Effects, Outcome
from chronicled.runtimes.runtime import Runtime
from chronicled.runtimes.worker import places
from chronicled.runtimes.worker.birth import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN
from chronicled.runtimes.worker.flight import Flight
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.observation import Ending
from chronicled.runtimes.worker.reconcile import Journaled, judge
from chronicled.runtimes.worker.spool import spooled_results

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["OUT_OF_MEMORY", "bury", "remove_sandbox", "unreachable"]

OUT_OF_MEMORY: Final = "out_of_memory"
"""Reason in the observation of an action that the kernel killed for want of memory."""
BY_KERNEL: Final = "oom_killed"
BY_SOMEBODY: Final = "killed"
BY_ANOTHER: Final = "another_instance"
"""Ends of a sandbox that a runtime proves (`Sandbox.wait_ended`), and that say more than that it was lost."""

_log = structlog.get_logger("chronicled.worker")


async def bury(session: SessionWorker, runtime: Runtime | None, generation: Generation, reason: str) -> None:
    """Close the books of a generation of which no process lives.

    In this order, so that a crash in between leaves nothing undecided: every action that was sent to it gets its
    terminal observation (from the spool where there is a result), with the last of them `generation_ended` is appended,
    its files are removed, `sandbox_removed` is appended. Raises as `Publisher`.
    """
    context = session.context
    generation.reconciled = False
    generation.hang_up()
    lost = await _end_flights(session, generation, reason)
    payload = GenerationEnded(sandbox=generation.sandbox_id, generation=generation.id, reason=reason)
    over = session.publisher.lifecycle("generation_ended", payload)
    events = await session.collector.lose_all(generation, lost, over)
    # What was accepted before this position and never ran is refused; nothing is sent before the fold says so.
    session.floor = max(session.floor, events[-1].position)
    session.generation = None
    context.journal.forget_generation(generation.id)
    await remove_sandbox(session, runtime, generation.sandbox_id, generation.id, reason)


async def _end_flights(session: SessionWorker, generation: Generation, reason: str) -> list[tuple[Flight, Draft]]:
    """End what has a result; return the others with what is to be said of them."""
    context = session.context
    lost: list[tuple[Flight, Draft]] = []

    async def lose(flight: Flight, ending: Ending) -> None:
        lost.append((flight, await session.collector.lost(flight, ending)))

    spooled = await to_thread.run_sync(spooled_results, context.directories.results(generation.id))
    vouched = context.journal.vouches(generation.id)
    async with anyio.create_task_group() as endings:
        for event in session.fold.open_actions():
            flight = session.flights.get(event.id)
            if flight is not None and flight.ending:
                endings.start_soon(flight.done.wait)
                continue
            noted: Journaled = "unsent" if vouched else "untrusted"
            if flight is not None or context.journal.dispatched(generation.id, event.id):
                noted = "sent"
            head = session.fold.head(event.lane) is event
            verdict = judge("over", "absent", event.id in spooled, noted, head)
            if verdict == "never_ran":
                continue
            flight = flight or session.dispatcher.reattach(generation, event)
            flight.ending = True
            if verdict == "collect":
                endings.start_soon(session.collector.collect, generation, flight, spooled[event.id])
            else:
                ending = _epitaph(generation, flight, reason, known=verdict == "lost")
                endings.start_soon(lose, flight, ending)
    return lost


def _epitaph(generation: Generation, flight: Flight, why: str, *, known: bool) -> Ending:
    outcome, reason, deadline = Outcome.SANDBOX_LOST, "sandbox_lost", None
    message = f"The sandbox was lost while this action was under way ({why})."
    if not known:
        outcome, reason = Outcome.UNKNOWN, "journal_lost"
        message = "The sandbox is gone, and whether this action was sent to it is not on record any more."
    elif why == BY_ANOTHER:
        outcome, reason = Outcome.UNKNOWN, BY_ANOTHER
        message = "The sandbox is another instance's, of whose log this one is a copy: there stands what became of it."
    elif why == BY_KERNEL:
        outcome, reason = Outcome.OOM_KILLED, OUT_OF_MEMORY
        message = "The sandbox ran out of memory, and the kernel ended it."
    elif why == BY_SOMEBODY or why.startswith(f"{BY_SOMEBODY}-"):
        outcome, reason = Outcome.KILLED, "sandbox_killed"
        message = "Somebody killed the sandbox while this action was under way."
    elif flight.stop == "command":
        outcome, reason, deadline = Outcome.TIMEOUT, "command_deadline", Deadline.COMMAND
        message = "The action server did not end it by its command deadline: its sandbox was ended."
    elif flight.stop == "cancel":
        outcome, reason = Outcome.CANCELLED, "cancelled"
        message = "The action server did not end it when it was cancelled: its sandbox was ended."
    return Ending(
        outcome=outcome,
        effects=Effects.POSSIBLE,
        reason=reason,
        message=message,
        deadline=deadline,
        generation=generation.id,
    )


def unreachable(generation: str) -> Ending:
    """Return the ending of what was sent to a generation that is neither reachable nor provably dead."""
    return Ending(
        outcome=Outcome.UNKNOWN,
        effects=Effects.POSSIBLE,
        reason="unreachable",
        message="The sandbox cannot be reached, and its death cannot be proven.",
        generation=generation,
    )


async def remove_sandbox(
    session: SessionWorker,
    runtime: Runtime | None,
    sandbox: str,
    generation: str | None,
    reason: str,
    unproven: Callable[[], None] = lambda: None,
) -> None:
    """Remove what is left of a sandbox, however long that takes, then say so. Raises as `Publisher`.

    Args:
        session: Whose.
        runtime: Removes it; None where nothing of it was made outside of this machine's folders.
        sandbox: Its id.
        generation: The one that is over, if there was one.
        reason: For the record.
        unproven: Called each time that it could not be removed.
    """
    directories = session.context.directories
    wait = RETRY_SECONDS_MIN
    while runtime is not None:
        try:
            # This one alone: sandboxes of sessions that are not claimed yet must not be taken for orphans.
            await runtime.remove(sandbox)
            break
        except SandboxUnreachable as error:
            _log.warning("removal_unproven", session=session.key.session, detail=error.detail)
            unproven()
        await anyio.sleep(wait)
        wait = min(2 * wait, RETRY_SECONDS_MAX)
    if generation is not None:
        await to_thread.run_sync(places.remove, directories.generation_spool(generation))
    await to_thread.run_sync(places.remove, directories.socket_directory(sandbox))
    await to_thread.run_sync(places.remove, directories.sandbox(sandbox))
    removed = SandboxRemoved(sandbox=sandbox, reason=reason)
    await session.publisher.publish([session.publisher.lifecycle("sandbox_removed", removed)])
    session.context.sandboxes.discard(sandbox)
