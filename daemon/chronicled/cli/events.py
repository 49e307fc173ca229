"""`chronicled events`: print the log, or follow it; of a daemon, or straight from a data directory."""

from __future__ import annotations

import argparse
import contextlib

from chronicled.cli import printing
from chronicled.cli.connection import RECONNECT_SECONDS, STARTING_SECONDS, add_connection, with_client
from chronicled.cli.units import add_units, chosen_units
from chronicled.client import Client
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import Event
from chronicled.events.errors import InvalidRequest, SessionNotFound
from chronicled.events.store import Filter
from chronicled.events.versions import Versions

__all__ = ["configure"]

TENANT = "default"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", metavar="NAME", help="only this session's (default: all)")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--after", metavar="N", default="0", help="cursor, exclusive: POSITION or POSITION@INCARNATION")
    begin.add_argument("--cursor", metavar="NAME", help="begin where `cursor save` said that this consumer was")
    parser.add_argument("--follow", action="store_true", help="go on for ever; survives the daemon's restarts")
    parser.add_argument("--kind", action="append", default=[], help="only this kind; may be repeated")
    parser.add_argument(
        "--as",
        action="append",
        default=[],
        dest="versions",
        metavar="KIND=VERSION",
        help="show this kind as that version has it, or `stored`: all as in the log; may be repeated",
    )
    parser.add_argument("--data", metavar="DIR", help="read a data directory, without a daemon or beside one")
    add_units(parser)
    add_connection(parser)
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print the events."""
    versions = Versions.parse(",".join(options.versions)) if options.versions else Versions()
    if options.data is not None:
        return _print_file(options, versions)
    retry_seconds = RECONNECT_SECONDS if options.follow else STARTING_SECONDS
    return with_client(options, lambda client: _print(client, options), retry_seconds=retry_seconds, versions=versions)


async def _print(client: Client, options: argparse.Namespace) -> int:
    after = options.after if options.cursor is None else await client.cursor(options.cursor)
    if options.session is None:
        events = client.events(after, follow=options.follow, kinds=options.kind)
    else:
        session = await client.session(options.session, create=False)
        events = session.events(after, follow=options.follow, kinds=options.kind)
    async with contextlib.aclosing(events):
        async for event in events:
            _show(event, options)
    return 0


def _print_file(options: argparse.Namespace, versions: Versions) -> int:
    """Print what a data directory holds, as a daemon would show it; also of a log that a newer version wrote.

    Raises:
        InvalidRequest: there is no log, or it is to be followed, or to be read from a cursor that a daemon keeps.
        SessionNotFound: it has no such session.
        LogCorrupt, SchemaTooNew: it cannot be read.
    """
    from chronicled.cli.audit import log_path
    from chronicled.events.codec import Codec
    from chronicled.events.presentation import Presentation
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.log_file import open_log_file

    if options.follow:
        raise InvalidRequest("A data directory is read once, to its end: follow the daemon that has it.")
    if options.cursor is not None:
        raise InvalidRequest("The daemon remembers cursors: without it, say where to begin by --after.")
    registry, chain = vocabulary(chosen_units(options))
    presentation, kinds = Presentation(Codec(registry, chain)), frozenset[str](options.kind)
    tenant = None if options.session is None else TENANT
    with open_log_file(log_path(options.data)) as log:
        if log.newer is not None:
            printing.error(f"{log.newer.detail} What can be read is shown; no daemon of this version may write to it.")
        after = Cursor.parse(options.after).resolve(log.incarnation, log.head)
        where = Filter(tenant=tenant, session=options.session, kinds=registry.spellings(kinds))
        if tenant is not None and not any(page.events for page in log.pages(0, Filter(tenant, options.session))):
            raise SessionNotFound(f"The log has no session {options.session!r}.")
        for page in log.pages(after, where):
            for event in presentation.show_all(page.events, versions, kinds):
                _show(event, options)
    return 0


def _show(event: Event, options: argparse.Namespace) -> None:
    if options.json:
        printing.json_line(event)
    else:
        printing.line(printing.event_line(event))
