"""`chronicled input`: type to a running action."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import OK
from chronicled.client import Client

__all__ = ["configure"]

TYPED_BYTES_MAX: Final = 64 << 10
"""A terminal in line mode takes far less at one time."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", required=True, metavar="NAME", help="whose action it is")
    parser.add_argument("--no-enter", action="store_true", help="type TEXT without Enter at its end")
    add_connection(parser)
    parser.add_argument("action", metavar="ID", help="as `submit` printed it, or `session actions` lists it")
    parser.add_argument("text", metavar="TEXT", help="what to type; `-` is standard input, as it is")
    parser.set_defaults(execute=client_command(_input))


async def _input(client: Client, options: argparse.Namespace) -> int:
    if options.text == "-":
        typed = sys.stdin.buffer.read(TYPED_BYTES_MAX)
    else:
        typed = options.text.encode() + (b"" if options.no_enter else b"\n")
    session = await client.session(options.session, create=False)
    await session.input(options.action, typed)
    return OK
