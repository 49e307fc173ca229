"""The executor of `run`: a command line in the lane's persistent bash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from chronicled.events.kinds.actions import Run
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.ending import Toll, end_command
from chronicled.runtimes.action_server.executor import Cause, Context, Ended, Request, error
from chronicled.runtimes.action_server.lane_shell import LaneShell
from chronicled.runtimes.action_server.process_tree import Process
from chronicled.runtimes.action_server.shell import Finished, Shell, ShellFailed
from chronicled.runtimes.action_server.supervision import LaneSupervisor, ReaperLost, Supervisor

__all__ = ["RunExecutor"]

_READ_ONLY: Final = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})
_decoder: Final = msgspec.json.Decoder(Run)


class RunExecutor:
    """Runs commands, each lane in a bash of its own that lives from command to command.

    Args:
        supervisor: The generation's reaper.
        program: Path of bash; None where the sandbox has none.
        background: Takes lane, data and size of what background jobs print between actions.
    """

    def __init__(
        self, supervisor: Supervisor, program: str | None, background: Callable[[str, bytes, int], None]
    ) -> None:
        self._supervisor = supervisor
        self._program = program
        self._background = background
        self._lanes: dict[str, LaneShell] = {}

    @property
    def kinds(self) -> Collection[str]:
        """`run`."""
        return ("run",)

    async def execute(self, request: Request, context: Context) -> Ended:
        """Run one command; see `Executor.execute`."""
        try:
            run = _decoder.decode(request.payload)
        except msgspec.MsgspecError as problem:
            return error("bad_arguments", f"the payload of the run action is not valid: {problem}")
        refusal = _refusal(run)
        if refusal is not None:
            return error("bad_arguments", refusal)
        directory = None
        if run.working_directory is not None:
            directory = context.lane.resolve(run.working_directory)
            if not _is_accessible(directory):
                return error("bad_arguments", f"the working directory {directory} is not there or not accessible")
        if self._program is None:
            return error("no_shell", "there is no bash in the sandbox")
        lane_shell = self._lane(request.lane)
        if lane_shell.state_lost and run.on_state_loss == "reject":
            lane_shell.state_lost = False
            return Ended(
                outcome=Outcome.REJECTED,
                effects=Effects.NONE,
                reason="state_lost",
                message="the lane's shell ended between two actions; send the action again to run it in a new one",
                state_lost=True,
            )
        try:
            shell, supervisor = await lane_shell.ready(context.lane.working_directory)
        except (ShellFailed, ReaperLost, OSError) as problem:
            return error("no_shell", str(problem))
        state_lost, lane_shell.state_lost = lane_shell.state_lost, False
        ended = await self._run(run, directory, context, lane_shell, shell, supervisor)
        return msgspec.structs.replace(ended, state_lost=True) if state_lost else ended

    async def close(self) -> None:
        """End every lane's shell."""
        for lane_shell in self._lanes.values():
            lane_shell.close()

    def _lane(self, name: str) -> LaneShell:
        if name not in self._lanes:

            def background(data: bytes, size: int) -> None:
                self._background(name, data, size)

            self._lanes[name] = LaneShell(self._supervisor, self._program or "", background)
        return self._lanes[name]

    async def _run(
        self,
        run: Run,
        directory: str | None,
        context: Context,
        lane_shell: LaneShell,
        shell: Shell,
        supervisor: LaneSupervisor,
    ) -> Ended:
        spared = lane_shell.enter(context.output.write)
        ending: asyncio.Task[Toll] | None = None

        def end(_: Cause) -> None:
            nonlocal ending
            if not finished.done():
                ending = asyncio.ensure_future(_end(shell, supervisor, spared, finished, lane_shell))

        try:
            context.begin()
            finished = shell.run(
                (run.command or "").encode(errors="surrogatepass"),
                tty=run.tty,
                environment=run.environment,
                directory=directory,
            )
            context.listen(lambda item: shell.type(item) if isinstance(item, bytes) else shell.interrupt(item))
            context.on_end(end)
            result = await finished
            toll = await _toll(ending)
        finally:
            context.listen(None)
            if ending is not None:
                ending.cancel()
            lane_shell.leave()
        if result.died and result.exit_code < 0 and ending is None:
            # Somebody killed the shell: that is no end in order, which would leave background jobs alone.
            with contextlib.suppress(ReaperLost):
                toll = Toll(*await supervisor.end(spared, 0))
        if supervisor is not lane_shell.lane:
            toll = Toll(toll.killed + await lane_shell.end_strays(), 0)
        return _ended(result, toll, context, shell)


async def _toll(ending: asyncio.Task[Toll] | None) -> Toll:
    return Toll(0, 0) if ending is None else await ending


async def _end(
    shell: Shell,
    supervisor: LaneSupervisor,
    spared: Collection[Process],
    finished: asyncio.Future[Finished],
    lane_shell: LaneShell,
) -> Toll:
    try:
        return await end_command(shell, supervisor, spared, finished)
    except ReaperLost:
        supervisor.kill()
        shell.died(-signal.SIGKILL)
        return Toll(await lane_shell.end_strays(), 0)


def _refusal(run: Run) -> str | None:
    if "\0" in (run.working_directory or ""):
        return "a working directory cannot hold a NUL character"
    if run.command is None:
        return "a program without a shell cannot be run here yet"
    if "\0" in run.command:
        return "a command cannot hold a NUL character"
    if any("\0" in value for value in run.environment.values()):
        return "an environment variable cannot hold a NUL character"
    if forbidden := _READ_ONLY.intersection(run.environment):
        return f"bash does not let {sorted(forbidden)[0]} be set"
    return None


def _is_accessible(directory: str) -> bool:
    return os.path.isdir(directory) and os.access(directory, os.X_OK)


def _ended(result: Finished, toll: Toll, context: Context, shell: Shell) -> Ended:
    if result.directory and result.directory.startswith("/"):
        context.lane.working_directory = result.directory
    elif not result.died:
        with contextlib.suppress(OSError):
            context.lane.working_directory = os.readlink(f"/proc/{shell.pid}/cwd")
    died = shell.dead is not None
    fields: dict[str, Any] = {
        "working_directory": context.lane.working_directory,
        "terminal_restarted": died,
        "survivors_killed": toll.killed,
    }
    outcome, effects, reason, message = Outcome.OK, Effects.COMPLETE, None, None
    if result.died and result.exit_code < 0:
        fields["signal"] = -result.exit_code
        outcome, effects, reason = Outcome.KILLED, Effects.POSSIBLE, "shell_killed"
        message = f"the lane's shell was ended by signal {-result.exit_code}"
    else:
        fields["exit_code"] = result.exit_code
        outcome = Outcome.OK if result.exit_code == 0 else Outcome.FAILED
        if result.died:
            reason, message = "shell_exited", "the command ended the lane's shell; the next one gets a new shell"
    if toll.left:
        message = f"{toll.left} processes could not be killed: the kernel holds them"
    return Ended(outcome=outcome, effects=effects, reason=reason, message=message, state_lost=died, fields=fields)
