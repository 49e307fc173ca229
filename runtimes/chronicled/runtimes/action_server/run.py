"""The executor of `run`: a command line in the lane's persistent bash, or a program without any shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from chronicled.events.kinds.actions import Run
from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import run_ending, spawning
from chronicled.runtimes.action_server.ending import Toll, end_command
from chronicled.runtimes.action_server.executor import Cause, Context, Ended, Request, error
from chronicled.runtimes.action_server.input_watch import InputWatch
from chronicled.runtimes.action_server.known import DigestSet
from chronicled.runtimes.action_server.lane_shell import LaneShell
from chronicled.runtimes.action_server.lanes import LANES_MAX
from chronicled.runtimes.action_server.process_tree import Process
from chronicled.runtimes.action_server.program import Program
from chronicled.runtimes.action_server.shell import Shell, ShellFailed
from chronicled.runtimes.action_server.supervision import LaneSupervisor, ReaperLost, Supervisor
from chronicled.runtimes.action_server.variables import READ_ONLY, SessionVariables

__all__ = ["RunExecutor"]

TTY_TERM: Final = "xterm-256color"
"""What a command whose output goes to the terminal is told about it; the others have `TERM` from the session."""
_RETIRED_OF: Final = 16
"""How many idle lanes are looked at for one without jobs."""
_decoder: Final = msgspec.json.Decoder(Run)

End = TypeVar("End")


class RunExecutor:
    """Runs commands and programs, each lane with a bash of its own that lives from command to command.

    A program runs where the lane's last command ended, in the session's environment: what the lane's bash has exported
    or set is not known outside it. It gets the lane's turn, deadlines and terminal like a command.

    Args:
        supervisor: The generation's reaper.
        program: Path of bash; None where the sandbox has none.
        environment: What every shell and program starts with.
        background: Takes lane, data and size of what background jobs print between actions.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        program: str | None,
        environment: Mapping[bytes, bytes],
        background: Callable[[str, bytes, int], None],
    ) -> None:
        self._supervisor = supervisor
        self._program = program
        self._environment = environment
        self._background = background
        self._variables = SessionVariables()
        self._lanes: dict[str, LaneShell] = {}
        """The one used last at the end."""
        self._retired = DigestSet()
        """Lanes whose shell was put down to make room, until they are told."""

    @property
    def kinds(self) -> Collection[str]:
        """`run`."""
        return ("run",)

    def set_variables(self, variables: Mapping[str, str | None]) -> list[str]:
        """Set (or unset: None) variables of the session for every command and program that begins from now on.

        Returns the names of those that nobody could use; the others are set.
        """
        return self._variables.update(variables)

    async def execute(self, request: Request, context: Context) -> Ended:
        """Run one command or program; see `Executor.execute`."""
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
        lane_shell = self._lane(request.lane)
        if lane_shell is None:
            return error("overloaded", f"{LANES_MAX} lanes of this sandbox are busy")
        lane_shell.busy = True
        try:
            if run.argv is not None:
                return await self._run_program(run, run.argv, directory, context, lane_shell)
            if self._program is None:
                return error("no_shell", "there is no bash in the sandbox; `argv` runs a program without one")
            return await self._run_command(run, directory, context, lane_shell)
        except (ShellFailed, ReaperLost, OSError) as problem:
            return error("no_shell", str(problem))
        finally:
            lane_shell.busy = False

    def holds_state(self, lane: str) -> bool:
        """Return whether a lane has a shell or jobs here, which would be lost if the lane were forgotten."""
        return lane in self._lanes

    async def close(self) -> None:
        """End every lane's shell."""
        for lane_shell in self._lanes.values():
            lane_shell.close()

    def _lane(self, name: str) -> LaneShell | None:
        """Return the lane's shell, now the one used last; None where all are busy."""
        lane_shell = self._lanes.pop(name, None)
        if lane_shell is None:
            if len(self._lanes) >= LANES_MAX and not self._retire():
                return None
            background = partial(self._background, name)
            lane_shell = LaneShell(self._supervisor, self._program, self._variables, background)
            lane_shell.state_lost = self._retired.discard(name)
        self._lanes[name] = lane_shell
        return lane_shell

    def _retire(self) -> bool:
        """Put down the idle lane that was used longest ago, preferably one without jobs; its next command is told."""
        idle = [name for name, lane_shell in self._lanes.items() if not lane_shell.busy]
        if not idle:
            return False
        name = next((each for each in idle[:_RETIRED_OF] if not self._lanes[each].has_jobs), idle[0])
        lane_shell = self._lanes.pop(name)
        if lane_shell.shell is not None or lane_shell.state_lost:
            self._retired.add(name)
        lane_shell.close()
        return True

    async def _run_command(self, run: Run, directory: str | None, context: Context, lane_shell: LaneShell) -> Ended:
        if lane_shell.state_lost and run.on_state_loss == "reject":
            lane_shell.state_lost = False
            return Ended(
                outcome=Outcome.REJECTED,
                effects=Effects.NONE,
                reason="state_lost",
                message="the lane's shell ended between two actions; send the action again to run it in a new one",
                state_lost=True,
            )
        begins_in = directory or context.lane.working_directory
        if not lane_shell.lives and not _is_accessible(begins_in):
            # Its next command may begin where the lane did. This one was meant for a place that is gone.
            context.lane.working_directory = context.lane.home
            return error("directory_gone", f"the lane's working directory {begins_in} is not there or not accessible")
        shell, supervisor = await lane_shell.ready(begins_in)
        state_lost, lane_shell.state_lost = lane_shell.state_lost, False
        spared = lane_shell.enter(shell.pid)
        environment = _environment(run)
        try:
            context.begin()
            finished = shell.run(
                (run.command or "").encode(errors="surrogatepass"),
                context.output.write,
                tty=run.tty,
                environment=environment,
                directory=directory,
            )
            result, toll, asked = await _see_through(shell, finished, supervisor, spared, context, lane_shell)
        finally:
            lane_shell.leave()
        if result.died and result.exit_code < 0 and not asked:
            # Somebody killed the shell: that is no end in order, which would leave background jobs alone.
            with contextlib.suppress(ReaperLost):
                toll = Toll(*await supervisor.end(spared, 0))
        if supervisor is not lane_shell.lane:
            strays = await lane_shell.end_strays(supervisor)
            toll = Toll(toll.killed + strays.killed, strays.left)
        run_ending.follow_directory(context, result, shell)
        ended = run_ending.of_command(result, toll, context, shell)
        return msgspec.structs.replace(ended, state_lost=True) if state_lost else ended

    async def _run_program(
        self, run: Run, arguments: list[str], directory: str | None, context: Context, lane_shell: LaneShell
    ) -> Ended:
        console, supervisor = await lane_shell.ready_for_program()
        environment = self._variables.applied(self._environment)
        for name, value in _environment(run).items():
            environment[name.encode()] = value.encode(errors="surrogateescape")
        start = spawning.encode_program(
            os.fsencode(directory or context.lane.working_directory),
            [argument.encode(errors="surrogatepass") for argument in arguments],
            environment,
        )
        program = Program(supervisor, console, arguments[0][:256])
        spared = lane_shell.enter(program.pid)
        try:
            context.begin()
            await program.start(start, context.output.write, tty=run.tty)
            result, toll, asked = await _see_through(program, program.finished, supervisor, spared, context, lane_shell)
        finally:
            lane_shell.leave()
        if supervisor is not lane_shell.lane and not asked:
            strays = await lane_shell.end_strays(supervisor)
            toll = Toll(toll.killed + strays.killed, strays.left)
        if result.message is not None:
            context.output.write(memoryview(f"chronicled: {result.message}\n".encode(errors="replace")))
        return run_ending.of_program(result, toll, context)


async def _see_through(
    runner: Shell | Program,
    finished: asyncio.Future[End],
    supervisor: LaneSupervisor,
    spared: Collection[Process],
    context: Context,
    lane_shell: LaneShell,
) -> tuple[End, Toll, bool]:
    """Stay with what runs until it has ended; return how, what it took to end it, and whether it was made to end."""
    ending: asyncio.Task[Toll] | None = None
    watch = InputWatch(
        runner.console, supervisor, lambda: runner.control, context.tell_waiting, runner.abandon, runner.reads_on
    )

    def end(_: Cause) -> None:
        nonlocal ending
        watch.close()
        if not finished.done():
            ending = asyncio.ensure_future(_end(runner, supervisor, spared, finished, lane_shell))

    def take(item: bytes | int) -> None:
        watch.stir()
        if isinstance(item, bytes):
            runner.type(item)
        else:
            runner.interrupt(item)

    try:
        context.output.regulate(runner.console.hold)
        context.listen(take)
        context.on_end(end)
        result = await finished
        watch.close()
        return result, await _toll(ending), ending is not None
    finally:
        watch.close()
        context.listen(None)
        context.output.regulate(None)
        # Whoever is cancelled while it waits for a task cancels that first.
        if ending is not None and (ending.cancel() or ending.cancelled()):
            # It took too long, or the generation ends: what is left to be done does the reaper.
            supervisor.kill()
            lane_shell.state_lost = True


async def _toll(ending: asyncio.Task[Toll] | None) -> Toll:
    return Toll(0, 0) if ending is None else await ending


async def _end(
    runner: Shell | Program,
    supervisor: LaneSupervisor,
    spared: Collection[Process],
    finished: asyncio.Future[Any],
    lane_shell: LaneShell,
) -> Toll:
    try:
        return await end_command(runner, supervisor, spared, finished)
    except ReaperLost:
        supervisor.kill()
        runner.died(-signal.SIGKILL)
        return await lane_shell.end_strays(supervisor)


def _environment(run: Run) -> Mapping[str, str]:
    return {"TERM": TTY_TERM, **run.environment} if run.tty else run.environment


def _refusal(run: Run) -> str | None:
    if "\0" in (run.working_directory or ""):
        return "a working directory cannot hold a NUL character"
    if "\0" in (run.command or ""):
        return "a command cannot hold a NUL character"
    if any("\0" in argument for argument in run.argv or ()):
        return "an argument cannot hold a NUL character"
    if any("\0" in value for value in run.environment.values()):
        return "an environment variable cannot hold a NUL character"
    if run.command is not None and (forbidden := READ_ONLY.intersection(run.environment)):
        return f"bash does not let {sorted(forbidden)[0]} be set"
    return None


def _is_accessible(directory: str) -> bool:
    return os.path.isdir(directory) and os.access(directory, os.X_OK)
