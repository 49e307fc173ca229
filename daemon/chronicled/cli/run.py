"""`chronicled run`: run a command, stream its output, end with its exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import sys

from chronicled.cli import printing
from chronicled.cli.connection import RECONNECT_SECONDS, STARTING_SECONDS, add_connection, with_client
from chronicled.cli.exit_code import ACTION_FAILED, CANCELLED, KILLED, OK, OURS, TIMEOUT, exit_code_of
from chronicled.cli.keyboard import forward, hint
from chronicled.cli.session import asked, pairs, seconds
from chronicled.client import Client, Effects, Ending, Outcome, Session
from chronicled.events.envelope import Event
from chronicled.events.errors import ActionEnded, ActionNotRunning, ChronicledError, InvalidRequest, NotReachable

__all__ = ["configure", "finish", "write"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", metavar="NAME", help="created if there is none (default: a throw-away one)")
    parser.add_argument("--runtime", help="provider of a new session's sandbox")
    parser.add_argument("--image", help="image of a new session's sandbox")
    parser.add_argument(
        "--sandbox", metavar="KEY=VALUE", action="append", default=[], help="what a new session's sandbox is given"
    )
    parser.add_argument("--lane", default="main", help="which of the session's shells")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="command deadline")
    parser.add_argument("--env", metavar="KEY=VALUE", action="append", default=[], help="variable of this command")
    parser.add_argument("--tty", action="store_true", help="give the command a terminal")
    parser.add_argument("--stdin", action="store_true", help="type what comes on standard input to the command")
    add_connection(parser)
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="one argument is a shell line; more are quoted")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Run the command and return its exit code, or one of ours."""
    try:
        # A daemon that was there and goes away comes back: then a lost connection is not the end.
        return with_client(options, lambda client: _run(client, options), retry_seconds=RECONNECT_SECONDS)
    except InvalidRequest:
        raise
    except ChronicledError as error:
        printing.error(error.detail)
        return exit_code_of(error) if isinstance(error, NotReachable) else OURS
    except BrokenPipeError:
        raise
    except OSError as error:
        printing.error(f"The output cannot be written: {error.strerror or error}.")
        return OURS


async def _run(client: Client, options: argparse.Namespace) -> int:
    await client.until_ready(STARTING_SECONDS)
    command = options.command[0] if len(options.command) == 1 else shlex.join(options.command)
    given = asked(options.sandbox)
    session = await client.session(options.session, runtime=options.runtime, image=options.image, sandbox=given)
    try:
        action = await session.submit(
            "run",
            {
                "command": command,
                "timeout_seconds": options.timeout,
                "environment": pairs(options.env, "--env"),
                "tty": options.tty,
            },
            lane=options.lane,
        )
        ending = await _follow(session, action, options)
    finally:
        if options.session is None:
            with contextlib.suppress(ChronicledError):
                await session.close()
    return finish(ending, options)


async def _follow(session: Session, event: Event, options: argparse.Namespace) -> Ending:
    """Stream the output and return the end; Ctrl-C interrupts the command, a second one cancels it.

    SIGTERM cancels at once, and so does the end of the terminal, unless `nohup` has us ignore it.
    """
    action = event.id
    tasks: set[asyncio.Task[None]] = set()
    presses = 0

    def stop(hard: bool) -> None:
        nonlocal presses
        presses += 1
        tasks.add(asyncio.create_task(_stop(session, action, hard=hard or presses > 1)))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop, False)
    loop.add_signal_handler(signal.SIGTERM, stop, True)
    if hangs_up := signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop, True)
    # Who types on a terminal sees that the command waits; a line of ours would stand in the midst of its screen.
    if not options.json and not (options.stdin and sys.stdin.isatty()):
        how = "it gets what is typed" if options.stdin else "Ctrl-C interrupts it; `--stdin` types to it"
        tasks.add(asyncio.create_task(hint(session, event, how)))
    if options.stdin:
        tasks.add(asyncio.create_task(forward(session, action)))
    try:
        if not options.json:
            async with contextlib.aclosing(session.output(action)) as output:
                async for chunk in output:
                    await asyncio.to_thread(write, chunk)
        return await session.wait(action)
    except OSError:
        # Whoever read the output is gone, or it has no room: nobody will end the command any more.
        await _stop(session, action, hard=True)
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        if hangs_up:
            loop.remove_signal_handler(signal.SIGHUP)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _stop(session: Session, action: str, *, hard: bool) -> None:
    try:
        if hard:
            await session.cancel(action, "stopped at the command line")
            printing.note("chronicled: cancelling")
        else:
            await session.interrupt(action)
            printing.note("chronicled: interrupting; Ctrl-C again cancels")
    except ActionEnded:
        pass
    except ActionNotRunning:
        printing.note("chronicled: it waits for its turn; Ctrl-C again cancels it")
    except ChronicledError as error:
        printing.error(error.detail)


def _why(ending: Ending) -> str:
    if ending.message:
        return ending.message
    if deadline := ending.payload.get("deadline"):
        return f"the {deadline} deadline is over"
    if reason := ending.payload.get("reason"):
        return str(reason)
    return "it had no effect" if ending.effects is Effects.NONE else "what it did until then stays done"


def write(data: bytes) -> None:
    """Write output as it is; a short write is gone on with."""
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def finish(ending: Ending, options: argparse.Namespace) -> int:
    """Say how the command ended, where that is more than its exit code, and return the exit code to end with."""
    if options.json:
        printing.json_line({"action": ending.action, "observation": ending.observation})
    elif dropped := ending.payload.get("output_dropped_bytes"):
        printing.error(f"{dropped} bytes of the output were not kept: it is over its limit, or the disk was full.")
    if ending.outcome in {Outcome.OK, Outcome.FAILED} and ending.exit_code is not None:
        return ending.exit_code & 0xFF
    if ending.outcome is Outcome.OK:
        return OK
    if not options.json:
        printing.error(f"{ending.outcome}: {_why(ending)}")
    codes = {
        Outcome.FAILED: ACTION_FAILED,
        Outcome.TIMEOUT: TIMEOUT,
        Outcome.CANCELLED: CANCELLED,
        Outcome.OOM_KILLED: KILLED,
    }
    if ending.outcome in codes:
        return codes[ending.outcome]
    stopped = ending.payload.get("signal")
    if ending.outcome is Outcome.KILLED and isinstance(stopped, int):
        return (128 + stopped) & 0xFF
    return OURS
