"""`chronicled cursor`: how far consumers are, whom the daemon remembers by name."""

from __future__ import annotations

import argparse

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import OK
from chronicled.client import Client

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    save = verbs.add_parser("save", help="remember under a name that everything up to a cursor was taken")
    save.add_argument("consumer", metavar="NAME")
    save.add_argument("cursor", metavar="CURSOR", help="position of the last event taken, or POSITION@INCARNATION")
    show = verbs.add_parser("show", help="print a cursor, `0` where none was saved: for `events --after`")
    show.add_argument("consumer", metavar="NAME")
    ls = verbs.add_parser("ls", help="list them, with how many events of the log are behind each")
    rm = verbs.add_parser("rm", help="forget one")
    rm.add_argument("consumer", metavar="NAME")
    for verb, job in ((save, _save), (show, _show), (ls, _list), (rm, _remove)):
        add_connection(verb)
        verb.set_defaults(execute=client_command(job))


async def _save(client: Client, options: argparse.Namespace) -> int:
    await client.save_cursor(options.consumer, options.cursor)
    return OK


async def _show(client: Client, options: argparse.Namespace) -> int:
    cursor = await client.cursor(options.consumer)
    if options.json:
        printing.json_line({"name": options.consumer, "cursor": cursor})
    else:
        printing.line(cursor)
    return OK


async def _list(client: Client, options: argparse.Namespace) -> int:
    cursors = await client.cursors()
    if options.json:
        for each in cursors:
            printing.json_line(each)
        return OK
    # A cursor of another incarnation is behind nothing that could be counted.
    rows = [
        (str(each["name"]), str(each["position"]), "-" if each["behind"] is None else str(each["behind"]), each["time"])
        for each in cursors
    ]
    printing.table([("NAME", "POSITION", "BEHIND", "SAVED"), *rows])
    return OK


async def _remove(client: Client, options: argparse.Namespace) -> int:
    await client.delete_cursor(options.consumer)
    return OK
