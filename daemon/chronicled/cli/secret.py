"""`chronicled secret`: keep values out of everything that is stored and shown."""

from __future__ import annotations

import argparse

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.secret_values import read_value
from chronicled.client import Client

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    put = verbs.add_parser("put", help="register a secret: the value of the environment variable NAME, or of a file")
    put.add_argument("session")
    put.add_argument("name", metavar="NAME")
    put.add_argument("--file", metavar="PATH", help="where the value is; - for standard input")
    where = put.add_mutually_exclusive_group()
    where.add_argument("--variable", metavar="VARIABLE", help="variable of the commands that holds it (default: NAME)")
    where.add_argument("--no-variable", action="store_true", help="only keep it secret, give it to no command")
    ls = verbs.add_parser("ls", help="list the names of a session's secrets")
    ls.add_argument("session")
    rm = verbs.add_parser("rm", help="take a secret out of the commands' environment; it stays secret")
    rm.add_argument("session")
    rm.add_argument("name", metavar="NAME")
    for verb, job in ((put, _put), (ls, _list), (rm, _remove)):
        add_connection(verb)
        verb.set_defaults(execute=client_command(job))


async def _put(client: Client, options: argparse.Namespace) -> int:
    value = read_value(options.name, options.file)
    session = await client.session(options.session, create=False)
    if options.no_variable or options.variable is not None:
        await session.put_secret(options.name, value, variable=options.variable)
    else:
        await session.put_secret(options.name, value)
    return 0


async def _list(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.session, create=False)
    for name, variables in (await session.secrets()).items():
        if options.json:
            printing.json_line({"name": name, "variables": variables})
        else:
            printing.line(" ".join([name, *(f"${variable}" for variable in variables)]))
    return 0


async def _remove(client: Client, options: argparse.Namespace) -> int:
    session = await client.session(options.session, create=False)
    await session.delete_secret(options.name)
    return 0
