"""How a command or a program ended, as the observation of `run` tells it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.ending import Toll
from chronicled.runtimes.action_server.executor import Context, Ended
from chronicled.runtimes.action_server.program import ProgramEnd
from chronicled.runtimes.action_server.shell import Finished, Shell

__all__ = ["follow_directory", "of_command", "of_program"]

_SIGNAL_BASE = 128
"""Shells tell of a signal as 128 and its number."""


def follow_directory(context: Context, result: Finished, shell: Shell) -> None:
    """Note where the command has left the lane."""
    if result.directory and result.directory.startswith("/"):
        context.lane.working_directory = result.directory
    elif not result.died:
        with contextlib.suppress(OSError):
            context.lane.working_directory = os.readlink(f"/proc/{shell.pid}/cwd")


def of_command(result: Finished, toll: Toll, context: Context, shell: Shell) -> Ended:
    """Return the end of a command in its shell, which may be gone by now."""
    restarted = shell.dead is not None
    fields = _fields(context, toll) | {"terminal_restarted": restarted}
    outcome, effects, reason, message = Outcome.OK, Effects.COMPLETE, None, None
    if result.died and result.exit_code < 0:
        fields["signal"] = -result.exit_code
        outcome, effects, reason = Outcome.KILLED, Effects.POSSIBLE, "shell_killed"
        message = f"the lane's shell was ended by signal {-result.exit_code}"
        if shell.abandoned:
            reason = "shell_broken"
            message = "the command has left the lane's shell unable to tell how it ended; the next one gets a new shell"
    else:
        fields["exit_code"] = result.exit_code
        outcome = Outcome.OK if result.exit_code == 0 else Outcome.FAILED
        if result.died:
            reason, message = "shell_exited", "the command ended the lane's shell; the next one gets a new shell"
    message = _left(toll) or message
    return Ended(outcome=outcome, effects=effects, reason=reason, message=message, state_lost=restarted, fields=fields)


def of_program(result: ProgramEnd, toll: Toll, context: Context) -> Ended:
    """Return the end of a program: the lane's shell, if there is one, has nothing to do with it."""
    fields = _fields(context, toll)
    code, message = result.exit_code, result.message
    if code < 0:
        # The wait status proves it, where a shell could only guess from the number.
        fields |= {"exit_code": _SIGNAL_BASE - code, "signal": -code}
        outcome, effects = Outcome.KILLED, Effects.POSSIBLE
        if context.cause is None:
            message = f"the program was ended by signal {-code}"
    else:
        fields["exit_code"] = code
        outcome, effects = Outcome.OK if code == 0 else Outcome.FAILED, Effects.COMPLETE
    return Ended(outcome=outcome, effects=effects, reason=result.reason, message=_left(toll) or message, fields=fields)


def _fields(context: Context, toll: Toll) -> dict[str, Any]:
    # A directory's name may be any bytes, an observation is text.
    shown = os.fsencode(context.lane.working_directory).decode(errors="replace")
    return {"working_directory": shown, "survivors_killed": toll.killed}


def _left(toll: Toll) -> str | None:
    if toll.left == 1:
        return "1 process could not be killed: the kernel holds it"
    return f"{toll.left} processes could not be killed: the kernel holds them" if toll.left else None
