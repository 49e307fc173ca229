"""`chronicled run`: run a command, stream its output, end with its exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import sys
from typing import Final

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, with_client
from chronicled.cli.exit_code import OURS, TIMEOUT, exit_code_of
from chronicled.cli.session import pairs
from chronicled.client import Client, Ending, Outcome, Session
from chronicled.events.errors import ActionEnded, ActionNotRunning, ChronicledError, InvalidRequest, NotReachable

__all__ = ["configure"]

RECONNECT_SECONDS: Final = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", metavar="NAME", help="created if there is none (default: a throw-away one)")
    parser.add_argument("--runtime", help="provider of a new session's sandbox")
    parser.add_argument("--image", help="image of a new session's sandbox")
    parser.add_argument("--lane", default="main", help="which of the session's shells")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, help="command deadline")
    parser.add_argument("--env", metavar="KEY=VALUE", action="append", default=[], help="variable of this command")
    parser.add_argument("--tty", action="store_true", help="give the command a terminal")
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


async def _run(client: Client, options: argparse.Namespace) -> int:
    if not await client.ready(seconds=2.0):
        raise NotReachable(f"No daemon answers at {client.address}; is `chronicled serve` running?")
    command = options.command[0] if len(options.command) == 1 else shlex.join(options.command)
    session = await client.session(options.session, runtime=options.runtime, image=options.image)
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
        ending = await _follow(session, action.id, options)
    finally:
        if options.session is None:
            with contextlib.suppress(ChronicledError):
                await session.close()
    return _finish(ending, options)


async def _follow(session: Session, action: str, options: argparse.Namespace) -> Ending:
    presses = 0

    def pressed() -> None:
        nonlocal presses
        presses += 1
        tasks.create_task(_stop(session, action, first=presses == 1))

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        loop.add_signal_handler(signal.SIGINT, pressed)
        try:
            if not options.json:
                async for chunk in session.output(action):
                    await asyncio.to_thread(_write, chunk)
            return await session.wait(action)
        finally:
            loop.remove_signal_handler(signal.SIGINT)


async def _stop(session: Session, action: str, *, first: bool) -> None:
    """Do what Ctrl-C asks for: interrupt the command; at the second time, cancel it."""
    with contextlib.suppress(ActionEnded, ActionNotRunning):
        if first:
            await session.interrupt(action)
        else:
            await session.cancel(action, "Ctrl-C twice")


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def _finish(ending: Ending, options: argparse.Namespace) -> int:
    if options.json:
        printing.json_line({"action": ending.action, "observation": ending.observation})
    if ending.outcome in {Outcome.OK, Outcome.FAILED} and ending.exit_code is not None:
        return ending.exit_code & 0xFF
    if not options.json:
        printing.error(f"{ending.outcome}: {ending.message or ending.payload.get('reason') or 'no further word'}")
    if ending.outcome is Outcome.TIMEOUT:
        return TIMEOUT
    stopped = ending.payload.get("signal")
    if ending.outcome is Outcome.KILLED and isinstance(stopped, int):
        return (128 + stopped) & 0xFF
    return OURS
