"""`chronicled cancel`: end an action."""

from __future__ import annotations

import argparse

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.client import Client

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", required=True, metavar="NAME")
    parser.add_argument("--reason", default="", help="stands in the record")
    add_connection(parser)
    parser.add_argument("action", metavar="ID")
    parser.set_defaults(execute=client_command(_cancel))


async def _cancel(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.session, create=False)
    await session.cancel(options.action, options.reason)
    ending = await session.wait(options.action)
    if options.json:
        printing.json_line({"action": ending.action, "observation": ending.observation})
    else:
        printing.line(str(ending.outcome))
    return 0
