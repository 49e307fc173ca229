"""Watches a running command for the moment when it waits for the keyboard, and tells once a waiting period.

What a process is blocked in makes no event, so it is looked at: never while the command prints or ends at once, twice
before it is believed, and ever more rarely. A look costs a fraction of a millisecond in the lane reaper (measured), a
command that stays quiet one each two seconds, and one that waits two a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from chronicled.runtimes.action_server import waiting
from chronicled.runtimes.action_server.console import Console
from chronicled.runtimes.action_server.supervision import LaneSupervisor, ReaperLost

__all__ = ["InputWatch"]

FIRST_SECONDS: Final = 0.1
"""Before the first look, and between the two that must agree."""
GAP_SECONDS_MAX: Final = 2.0
WAITING_SECONDS: Final = 0.5
"""Between two looks while it waits, so that no word of waiting outlives it for long."""
PROMPT_SECONDS: Final = 3.0
"""Where the kernel hides what processes are blocked in, an unfinished line must have stood for so long."""
COST_FACTOR: Final = 100
"""The next look is at least so many times as far away as the last one took: a hundredth of a processor at most."""


class InputWatch:
    """Looks while one command runs.

    A period begins with the second look in a row that finds the terminal awaited, and ends with what is typed, or when
    it is no longer awaited.

    Args:
        console: The command's.
        supervisor: Who looks.
        control: Returns the inode of the pipe from which the lane's shell has its commands, if it has read all of
            them; 0 otherwise.
        tell: Called with True when a waiting period begins, with False when one has ended by itself.
        idle: Called when the shell waits for its next command, although this one has not ended: its end was lost.
        reads_on: Returns whether the shell has read what only one reads that waits for its next command: asked where
            nobody is told what runs in the foreground (gVisor), nor what it is blocked in.
    """

    def __init__(
        self,
        console: Console,
        supervisor: LaneSupervisor,
        control: Callable[[], int],
        tell: Callable[[bool], None],
        idle: Callable[[], None],
        reads_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._terminal = console.terminal
        self._console = console
        self._supervisor = supervisor
        self._control = control
        self._tell = tell
        self._idle = idle
        self._reads_on = reads_on
        self._seen_idle = False
        self._loop = asyncio.get_running_loop()
        self._gap = FIRST_SECONDS
        self._cost = 0.0
        self._seen_waiting = False
        self._told: bool | None = False
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(FIRST_SECONDS, self._look)

    def stir(self) -> None:
        """Something was typed, or a signal sent: what was waited for is there, and there may be more to come."""
        if self._timer is None and self._turn < 0:
            return
        # Whatever was told may cross with what was typed: the next verdict is told in any case.
        self._told = None if self._told else False
        self._seen_waiting = False
        self._arm(FIRST_SECONDS)

    def close(self) -> None:
        """Stop looking. Idempotent."""
        self._turn = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._turn += 1
        self._gap = seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._console.printed_at < FIRST_SECONDS / 2 and not self._told:
            self._arm(min(2 * self._gap, GAP_SECONDS_MAX / 2))
            return
        group = self._terminal.foreground
        if self._terminal.has_unread_input:
            self._judge(found=False)
            return
        turn = self._turn
        try:
            self._supervisor.look(
                group,
                self._terminal.device,
                self._control(),
                lambda verdict, cost: self._answer(verdict, cost) if turn == self._turn else None,
                raw=self._terminal.is_raw,
            )
        except ReaperLost:
            # The command is over, or will be.
            self.close()

    def _answer(self, verdict: bytes, cost: float) -> None:
        self._cost = cost
        if verdict in (waiting.HIDDEN, waiting.BUSY) and not self._terminal.foreground and self._reads_on():
            verdict = waiting.IDLE
        if verdict == waiting.IDLE and self._seen_idle:
            self._idle()
            return
        self._seen_idle = verdict == waiting.IDLE
        if self._seen_idle:
            self._arm(FIRST_SECONDS)
            return
        with contextlib.suppress(OSError):
            self._judge(found=verdict == waiting.WAITS or (verdict == waiting.HIDDEN and self._suspects()))

    def _suspects(self) -> bool:
        """Judge by the terminal alone: a program has changed how it takes input, or left a line unfinished long ago."""
        quiet = self._loop.time() - self._console.printed_at
        return self._terminal.is_changed or (self._console.unfinished_line and quiet > PROMPT_SECONDS)

    def _judge(self, *, found: bool) -> None:
        confirmed, self._seen_waiting = found and self._seen_waiting, found
        if found and not confirmed:
            self._arm(FIRST_SECONDS)
            return
        if confirmed != self._told:
            self._told = confirmed
            self._tell(confirmed)
        gap_max = WAITING_SECONDS if self._told else GAP_SECONDS_MAX
        self._arm(max(min(2 * self._gap, gap_max), COST_FACTOR * self._cost))
