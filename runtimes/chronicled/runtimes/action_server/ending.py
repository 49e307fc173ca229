"""Ending a command that does not end by itself: SIGINT, then SIGTERM, then SIGKILL of everything that it started."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final, NamedTuple, Protocol

from chronicled.runtimes.action_server.process_tree import Process
from chronicled.runtimes.action_server.supervision import LaneSupervisor

__all__ = ["Runner", "Toll", "end_command"]

INTERRUPT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.02
SHELL_SECONDS: Final = 0.1
"""A shell that drops its command on SIGINT takes no time for it."""
AGAIN_MAX: Final = 2
"""How often what a shell begins after a SIGINT is interrupted too, before the shell itself goes."""
TERMINATE_SECONDS: Final = 0.3
YIELD_SECONDS: Final = 0.3
"""Together well below the two seconds in which an action is over after its deadline."""


class Runner(Protocol):
    """What runs one command at a time: the lane's shell, or a program without one."""

    @property
    def pid(self) -> int:
        """The process that survives the end of a command; 0 for none."""
        ...

    @property
    def ignores_interrupts(self) -> bool:
        """Whether that process has been made to ignore SIGINT."""
        ...

    @property
    def foreground(self) -> int:
        """The terminal's foreground process group; 0 for none."""
        ...

    def interrupt_all(self) -> None:
        """Send SIGINT to whatever runs, so that the rest of the command is dropped too."""
        ...

    def interrupt_shell(self) -> None:
        """Send SIGINT to the process that survives the end of a command alone, if there is one."""
        ...

    async def settle(self) -> bool:
        """Return whether the process that survives the end of a command has nothing more of it to do, a while at most.

        False too where there is none.
        """
        ...


class Toll(NamedTuple):
    """What it took."""

    killed: int
    left: int
    """Processes that even SIGKILL has not ended in time (uninterruptible in the kernel)."""


async def end_command(
    runner: Runner, supervisor: LaneSupervisor, spared: Collection[Process], finished: asyncio.Future[Any]
) -> Toll:
    """End the running command and everything that was not there when it began; `finished` is done when it returns.

    The shell survives if it comes back; if not, it is killed as well.

    Raises:
        ReaperLost: the lane reaper is gone; what it supervised is killed by the reaper.

    Cancellation: leaves the ending half done; only for the end of the whole generation.
    """
    goes_on = await _interrupt(runner, finished)
    if not goes_on and not finished.done():
        await supervisor.ask_to_end(spared, runner.pid)
        await _over(finished, TERMINATE_SECONDS)
    # A shell that ignores SIGINT would go on with the rest of its command once it has lost its child.
    yields = finished.done() or not (goes_on or runner.ignores_interrupts)
    if yields and not finished.done():
        # Not the others: they are killed now, and who forks on a SIGINT would only be more by then.
        runner.interrupt_shell()
    killed, left = await supervisor.end(spared, runner.pid if yields else 0)
    if not finished.done():
        runner.interrupt_all()
        if not await _over(finished, YIELD_SECONDS):
            more, left = await supervisor.end(spared, 0)
            await _over(finished, YIELD_SECONDS)
            return Toll(killed + more, left)
    # A trap on the interrupt, or on the death of its children, may have begun something as the shell came back, or be
    # about to: at rest is only a shell that has done what was pending and has nothing new then. One that never is goes.
    for last in (False, False, True):
        settled = not last and await runner.settle()
        more, left = await supervisor.end(spared, runner.pid if settled else 0)
        killed += more
        if not more:
            break
    return Toll(killed, left)


async def _interrupt(runner: Runner, finished: asyncio.Future[Any]) -> bool:
    """Interrupt the command and give it time to end; return whether the shell goes on with the rest of it instead.

    A trap on SIGINT makes it do that, and so does a program that takes the signal and then ends as if it had not.
    """
    loop = asyncio.get_running_loop()
    group = runner.foreground
    again = AGAIN_MAX
    runner.interrupt_all()
    end = loop.time() + INTERRUPT_SECONDS
    since = loop.time()
    while not await _over(finished, LOOK_SECONDS) and loop.time() < end:
        now = runner.foreground
        if now == group and now != runner.pid:
            continue
        if now == runner.pid:
            # Between two programs, or in a loop of builtins.
            if loop.time() - since > SHELL_SECONDS:
                return True
            continue
        if again == 0:
            return True
        again -= 1
        group, since = now, loop.time()
        runner.interrupt_all()
    return False


async def _over(finished: asyncio.Future[Any], seconds: float) -> bool:
    if not finished.done():
        await asyncio.wait((finished,), timeout=seconds)
    return finished.done()
