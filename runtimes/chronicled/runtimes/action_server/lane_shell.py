"""What a lane runs commands in, over the lane's life: its reaper, its shell and its console for programs.

Each is started when first needed and replaced when it has died.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from chronicled.events.limits import PROGRESS_BYTES_MAX
from chronicled.runtimes.action_server import process_tree
from chronicled.runtimes.action_server.console import Console
from chronicled.runtimes.action_server.ending import Toll
from chronicled.runtimes.action_server.process_tree import Process
from chronicled.runtimes.action_server.shell import Shell
from chronicled.runtimes.action_server.supervision import LaneSupervisor, ReaperLost, Supervisor
from chronicled.runtimes.action_server.variables import SessionVariables

__all__ = ["LaneShell", "find_bash"]

_BACKGROUND_SECONDS: Final = 0.05


class LaneShell:
    """The shell of one lane, with its reaper.

    Args:
        supervisor: The generation's reaper.
        program: Path of bash; None where the sandbox has none.
        variables: What the session has set since it began.
        background: Takes what background jobs print between actions: at most 4 KiB of it, and the size of all of it
            since the last call.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        program: str | None,
        variables: SessionVariables,
        background: Callable[[bytes, int], None],
    ) -> None:
        self.state_lost = False
        """The shell died since the last action ended."""
        self.busy = False
        """An action runs in it, or is about to."""
        self.lane: LaneSupervisor | None = None
        self.shell: Shell | None = None
        self._console: Console | None = None
        self._lost_lanes: list[LaneSupervisor] = []
        self._supervisor = supervisor
        self._program = program
        self._variables = variables
        self._background = background
        self._background_bytes = 0
        self._background_head = bytearray()
        self._flush: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._in_action = False

    @property
    def has_jobs(self) -> bool:
        """Whether anything but its shell lives in it."""
        passed = self.shell.pid if self.shell is not None else 0
        return self.lane is not None and bool(process_tree.descendants(self.lane.pid, passed=passed))

    @property
    def lives(self) -> bool:
        """Whether it has a shell that goes on."""
        return self.shell is not None and self.shell.dead is None

    async def ready(self, directory: str) -> tuple[Shell, LaneSupervisor]:
        """Return the shell, started in the directory if there is none, or none that lives.

        Raises:
            ShellFailed: it did not come up.
            ReaperLost: the reaper is gone.
        """
        assert self._program is not None, "a sandbox without bash runs programs only"
        lane = await self._ready_lane()
        if self.shell is not None and self.shell.dead is not None:
            self.discard()
        if self.shell is None:
            shell = Shell(lane, self._between, self._variables)
            self.shell = shell
            try:
                await shell.start(self._program, directory)
            except BaseException:
                self.discard()
                raise
        return self.shell, lane

    async def ready_for_program(self) -> tuple[Console, LaneSupervisor]:
        """Return the console for programs, which need no shell.

        Raises:
            ReaperLost: the reaper is gone.
        """
        lane = await self._ready_lane()
        if self._console is None:
            self._console = Console(self._between)
        return self._console, lane

    def enter(self, runner: int) -> list[Process]:
        """An action begins; return the processes that it has not started, without `runner`, the shell that runs it."""
        assert self.lane is not None
        self._in_action = True
        self._emit()
        return process_tree.descendants(self.lane.pid, passed=runner)

    def leave(self) -> None:
        """The action has ended."""
        self._in_action = False

    async def end_strays(self, lane: LaneSupervisor) -> Toll:
        """Have the reaper kill what a dead lane reaper left behind; return what it took."""
        try:
            return Toll(*await self._supervisor.end_strays(lane.pid))
        except ReaperLost:
            return Toll(0, 0)

    def discard(self) -> None:
        """Forget the shell; the next action starts a new one."""
        if self.shell is not None:
            self.shell.close()
            self.shell = None

    def close(self) -> None:
        """Let the lane end with everything in it."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self.discard()
        self._discard_console()
        self._bury_lanes()
        if self.lane is not None:
            self.lane.close()

    async def _ready_lane(self) -> LaneSupervisor:
        if self.lane is None:
            self._bury_lanes()
            # A terminal stays with the process that it hangs on.
            self._discard_console()
            self.lane = await self._supervisor.lane(self._died, self._lost)
        return self.lane

    def _discard_console(self) -> None:
        if self._console is not None:
            self._console.close()
            self._console = None

    def _died(self, pid: int, code: int) -> None:
        if self.shell is not None and self.shell.pid == pid:
            self.state_lost = self.state_lost or not self._in_action
            self.shell.died(code)

    def _bury_lanes(self) -> None:
        while self._lost_lanes:
            self._lost_lanes.pop().close()

    def _lost(self) -> None:
        if self.lane is not None:
            # The action that runs may still have to kill it.
            self._lost_lanes.append(self.lane)
        self.lane = None
        if self.shell is not None:
            # The kernel kills the shell with its parent.
            self._died(self.shell.pid, -9)

    def _between(self, data: memoryview) -> None:
        self._background_bytes += len(data)
        self._background_head += data[: PROGRESS_BYTES_MAX - len(self._background_head)]
        if self._flush is None:
            self._flush = self._loop.call_later(_BACKGROUND_SECONDS, self._emit)

    def _emit(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
            data = bytes(self._background_head)
            size, self._background_bytes = self._background_bytes, 0
            self._background_head.clear()
            self._background(data, size)


def find_bash(search_path: str, beside: str) -> str | None:
    """Return the path of a bash: of the sandbox where it has one, else the one that came with the interpreter."""
    folders = [*search_path.split(":"), "/bin", "/usr/bin", "/usr/local/bin", beside]
    for folder in folders:
        path = os.path.join(folder, "bash")
        if folder.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None
