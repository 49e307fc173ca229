"""`chronicled events`: print the log, or follow it."""

from __future__ import annotations

import argparse
import contextlib

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, with_client
from chronicled.client import Client

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", metavar="NAME", help="only this session's (default: all)")
    parser.add_argument("--after", metavar="N", default="0", help="cursor, exclusive: POSITION or POSITION@INCARNATION")
    parser.add_argument("--follow", action="store_true", help="go on for ever; survives the daemon's restarts")
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")
    add_connection(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the events."""
    retry_seconds = 30.0 if options.follow else 0.0
    return with_client(options, lambda client: _print(client, options), retry_seconds=retry_seconds)


async def _print(client: Client, options: argparse.Namespace) -> int:
    if options.session is None:
        events = client.events(options.after, follow=options.follow, kinds=options.kind)
    else:
        session = await client.session(options.session, create=False)
        events = session.events(options.after, follow=options.follow, kinds=options.kind)
    async with contextlib.aclosing(events):
        async for event in events:
            if options.json:
                printing.json_line(event)
            else:
                printing.line(printing.event_line(event))
    return 0
