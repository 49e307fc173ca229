"""`chronicled interrupt`: send a signal to a running action."""

from __future__ import annotations

import argparse

from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import OK
from chronicled.client import Client

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", required=True, metavar="NAME", help="whose action it is")
    parser.add_argument("--signal", metavar="NAME", default="SIGINT", help="which (default: SIGINT, as of Ctrl-C)")
    add_connection(parser)
    parser.add_argument("action", metavar="ID", help="as `submit` printed it, or `session actions` lists it")
    parser.set_defaults(execute=client_command(_interrupt))


async def _interrupt(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.session, create=False)
    await session.interrupt(options.action, options.signal)
    return OK
