"""`chronicled output`: what an action printed, followed while it runs; end with its exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.run import finish, write
from chronicled.client import Client
from chronicled.events.errors import InvalidRequest

__all__ = ["configure"]

RECORDED = "recorded"
"""Status of what is no work for a sandbox: it has no end to wait for."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", required=True, metavar="NAME", help="whose action it is")
    add_connection(parser)
    parser.add_argument("action", metavar="ID", help="as `submit` printed it; Ctrl-C leaves the action alone")
    parser.set_defaults(execute=client_command(_output, patient=True))


async def _output(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.session, create=False)
    status = await session.status(options.action)
    if status.status == RECORDED:
        raise InvalidRequest(f"The action {options.action} ({status.action.kind}) is only recorded: it prints nothing.")
    if not options.json:
        async with contextlib.aclosing(session.output(options.action)) as output:
            async for chunk in output:
                await asyncio.to_thread(write, chunk)
    return finish(await session.wait(options.action), options)
