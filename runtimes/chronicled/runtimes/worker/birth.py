"""Starting a sandbox: until its action server has reported in, or nothing of it is left."""

from __future__ import annotations

from typing import Final

import anyio
import structlog
from anyio import CancelScope

from chronicled.events.errors import (
    ChronicledError,
    InvalidRequest,
    SandboxError,
    SandboxStartFailed,
    SandboxUnreachable,
)
from chronicled.runtimes.runtime import Runtime, Sandbox, SandboxSpec
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.start_slot import StartSlot
from chronicled.runtimes.worker.warm import Warm

__all__ = ["RETRY_SECONDS_MAX", "RETRY_SECONDS_MIN", "abort", "come_over", "ended", "greeted", "start"]

RETRY_SECONDS_MIN: Final = 0.2
RETRY_SECONDS_MAX: Final = 30.0
KILL_SECONDS: Final = 20.0
"""How long a start that is given up waits for the proof that nothing of it is left."""

_log = structlog.get_logger("chronicled.worker")


async def start(runtime: Runtime, spec: SandboxSpec, generation: Generation, slot: StartSlot) -> Sandbox:
    """Return the sandbox once its action server has shaken hands. The slot is taken, and its deadline runs.

    Raises:
        SandboxStartFailed: it did not within the start deadline (`deadline` in its extra), or could not at all.

    Cancellation: what was started is killed first.
    """
    sandbox: Sandbox | None = None
    died = ""
    try:
        with slot.deadline:
            sandbox = await _started(runtime, spec, slot)
            died = await _greeted_or_dead(sandbox, generation)
            if not died:
                return sandbox
    except BaseException:
        if sandbox is not None:
            await abort(sandbox)
        raise
    if died:
        raise SandboxStartFailed(f"The action server ended before it reported in ({died}).")
    if sandbox is not None:
        await abort(sandbox)
    raise SandboxStartFailed(f"It did not report in within the start deadline of {slot.seconds} s.", deadline=True)


async def _started(runtime: Runtime, spec: SandboxSpec, slot: StartSlot) -> Sandbox:
    try:
        return await runtime.start(spec, slot.report)
    except (ChronicledError, BaseExceptionGroup) as error:
        # What a runtime may raise, and what the log says to its reports. A request that it calls wrong is neither.
        if not isinstance(error, InvalidRequest):
            raise
        detail = error.detail
    except Exception as error:
        # A defect of the runtime, or an engine that answers like no other: told once, and not tried for ever.
        _log.exception("start_broken", session=spec.session)
        detail = f"{runtime.name} failed in a way that it does not know ({error!r})."
    raise SandboxStartFailed(detail)


async def come_over(warm: Warm, generation: Generation, seconds: float) -> Sandbox:
    """Return a sandbox of the pool once its server has dialled this worker's session, which listens already.

    Raises:
        SandboxStartFailed: it did not in time; it was ended.
    """
    warm.taken.set()
    died = ""
    try:
        with anyio.move_on_after(seconds):
            died = await _greeted_or_dead(warm.sandbox, generation)
            if not died:
                return warm.sandbox
    except BaseException:
        await abort(warm.sandbox)
        raise
    await abort(warm.sandbox)
    raise SandboxStartFailed(f"The warm sandbox did not come over ({died or 'too late'}).")


async def _greeted_or_dead(sandbox: Sandbox, generation: Generation) -> str:
    died = ""
    async with anyio.create_task_group() as race:

        async def watch() -> None:
            nonlocal died
            died = await ended(sandbox) or "ended"
            race.cancel_scope.cancel()

        race.start_soon(watch)
        await generation.greeted.wait()
        race.cancel_scope.cancel()
    return died


async def greeted(sandbox: Sandbox) -> None:
    """Have what the sandbox was told at its start destroyed, before anything of an agent's runs in it.

    Raises:
        SandboxStartFailed: it still stands where a command could read it.
    """
    try:
        await sandbox.greeted()
    except SandboxStartFailed:
        raise
    except SandboxError as error:
        raise SandboxStartFailed(f"The secrets of its start could not be destroyed: {error.detail}") from error


async def ended(sandbox: Sandbox) -> str:
    """Return why the sandbox ended, once that is proven, however long the proof takes. Cancellation: safe."""
    wait = RETRY_SECONDS_MIN
    while True:
        try:
            return await sandbox.wait_ended()
        except SandboxUnreachable as error:
            _log.warning("death_unproven", detail=error.detail)
        await anyio.sleep(wait)
        wait = min(2 * wait, RETRY_SECONDS_MAX)


async def abort(sandbox: Sandbox) -> None:
    """End a sandbox that is not in the log: nothing would find it by its handle, so it must not outlive its start."""
    with CancelScope(shield=True), anyio.move_on_after(KILL_SECONDS):
        try:
            await sandbox.kill()
        except SandboxUnreachable as error:
            _log.warning("kill_unproven", detail=error.detail)
