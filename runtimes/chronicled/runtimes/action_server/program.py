"""A program that is run as it is named, without any shell: argv in, wait status out."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable
from typing import Final, NamedTuple

from chronicled.runtimes.action_server.console import Console, signal_group
from chronicled.runtimes.action_server.supervision import LaneSupervisor

__all__ = ["Program", "ProgramEnd"]

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit codes of what could not be executed, as shells have them."""


class ProgramEnd(NamedTuple):
    """How a program ended."""

    exit_code: int
    """Negative for the signal that ended it."""
    reason: str | None = None
    """Why it could not be executed: `directory_gone`, `command_not_found` or `not_executable`."""
    message: str | None = None


class Program:
    """One run of a program in a lane's process tree, with the console's terminal as its input and controlling terminal.

    It sees the directory and environment that it is given, nothing of the lane's shell, and can change neither.

    Args:
        supervisor: The lane's reaper.
        console: The lane's console for programs.
        name: What it is called in messages: its first argument.
    """

    pid = 0
    """No process to spare when it is ended: all of it goes."""
    ignores_interrupts = False
    control = 0

    def __init__(self, supervisor: LaneSupervisor, console: Console, name: str) -> None:
        self._supervisor = supervisor
        self.console = console
        self._name = name
        self._group = 0
        self._early: list[int] = []
        self._failure: ProgramEnd | None = None
        self._end: ProgramEnd | None = None
        self.finished: asyncio.Future[ProgramEnd] = asyncio.get_running_loop().create_future()
        """Done when it has ended, all of its output delivered. Never fails."""

    @property
    def foreground(self) -> int:
        """The terminal's foreground process group, the program's own where that is not told; 0 for none."""
        return self.console.terminal.foreground or self._group

    async def start(self, start: bytes, deliver: Callable[[memoryview], None], *, tty: bool) -> None:
        """Start it.

        Args:
            start: What `spawning.encode_program` made.
            deliver: Takes what it prints until it has ended.
            tty: Whether its output goes to the terminal too.

        Raises:
            ReaperLost: the lane reaper is gone, or cannot fork.
        """
        self.console.begin(deliver, tty=tty)
        slave = self.console.terminal.slave
        output = slave if tty else self.console.output_theirs
        self._group = await self._supervisor.start_program(slave, output, start, self._notice)
        while self._early:
            self.interrupt(self._early.pop(0))

    def type(self, data: bytes) -> None:
        """Type this to whatever reads from the terminal."""
        self.console.terminal.type(data)

    def interrupt(self, number: int) -> None:
        """Send a signal to the terminal's foreground process group, once the program has begun."""
        if not self._group:
            self._early.append(number)
        elif not self.finished.done():
            signal_group(self.foreground, number)

    def interrupt_all(self) -> None:
        """Send SIGINT to the foreground process group."""
        self.interrupt(signal.SIGINT)

    def interrupt_shell(self) -> None:
        """Do nothing: there is no shell."""

    async def settle(self) -> bool:
        """False: there is no shell."""
        return False

    def abandon(self) -> None:
        """Do nothing: a program's end cannot be lost."""

    def reads_on(self) -> bool:
        """False: it has no next command."""
        return False

    def died(self, code: int) -> None:
        """Take note that it is gone with its lane reaper."""
        self._over(code)

    def _notice(self, words: list[bytes]) -> None:
        if words[0] == b"failed":
            self._failure = self._explain(words[2].decode(), int(words[3]))
        else:
            self._over(int(words[2]))

    def _over(self, code: int) -> None:
        if self._end is not None:
            return
        self._end = end = self._failure or ProgramEnd(code)
        finished = self.finished

        def complete() -> None:
            if not finished.done():
                finished.set_result(end)

        self.console.end(complete)

    def _explain(self, place: str, number: int) -> ProgramEnd:
        why = os.strerror(number)
        if place == "directory":
            return ProgramEnd(NOT_EXECUTABLE, "directory_gone", f"the lane's working directory is gone: {why}")
        if place == "interpreter":
            return ProgramEnd(NOT_EXECUTABLE, "not_executable", f"{self._name}: its interpreter is not there")
        if number == errno.ENOENT:
            what = "no such file" if "/" in self._name else "command not found"
            return ProgramEnd(NOT_FOUND, "command_not_found", f"{self._name}: {what}")
        if number == errno.E2BIG:
            why = "arguments and environment are too long"
        return ProgramEnd(NOT_EXECUTABLE, "not_executable", f"{self._name}: {why}")
