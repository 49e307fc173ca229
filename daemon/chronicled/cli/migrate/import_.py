"""`chronicled migrate import`: sessions of other systems, brought into a log that no daemon uses at the moment."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from chronicled.cli import printing
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.cli.secret_values import FROM_HELP, read_values
from chronicled.cli.units import add_units, chosen_units
from chronicled.events.errors import InvalidRequest

if TYPE_CHECKING:
    from chronicled.migrations.unit import Unit
    from chronicled.storage.imports.chunk import Entry
    from chronicled.storage.imports.importer import Outcome
    from chronicled.storage.imports.source import Source

__all__ = ["configure"]

SHOWN_EVERY = 1024
"""Records between two signs of life on a terminal."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("path", metavar="PATH", help="a session's folder or file, or a folder that holds sessions")
    parser.add_argument("--format", metavar="NAME", help="what it is, e.g. openhands.v0 (default: found out)")
    parser.add_argument("--session", metavar="NAME", help="name of the session (default: what the source is called)")
    parser.add_argument("--tenant", metavar="NAME", default="default", help="the sessions' tenant")
    parser.add_argument("--timezone", metavar="ZONE", help="in which times without a zone were written, e.g. UTC")
    parser.add_argument("--report", metavar="FILE", help="write what became of each record, as JSON Lines")
    parser.add_argument(
        "--redact",
        action="append",
        default=[],
        metavar="NAME[=PATH]",
        help=f"keep <secret:NAME> in place of a value that was let through; {FROM_HELP}",
    )
    parser.add_argument("--dry-run", action="store_true", help="convert and report, write no event")
    add_units(parser)
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=import_sessions)


def import_sessions(options: argparse.Namespace) -> int:
    """Import; exit code 1 when a session was refused (the others are imported)."""
    import asyncio

    from chronicled.daemon.fail_stop import arm_fault_point
    from chronicled.storage.writer import SWITCH_SECONDS

    sys.setswitchinterval(SWITCH_SECONDS)
    # Records become many objects that live shortly and form no cycles, and what is imported stays: looking for cycles
    # at Python's own pace costs a tenth.
    gc.freeze()
    gc.set_threshold(500_000, 10, 10)
    if setting := os.environ.get("CHRONICLED_FAULT_POINT"):
        arm_fault_point(setting)
    units = chosen_units(options)
    if options.report is None:
        return asyncio.run(_import(options, None, units))
    with open(options.report, "wb") as report:
        return asyncio.run(_import(options, report, units))


async def _import(options: argparse.Namespace, report: IO[bytes] | None, units: Sequence[Unit]) -> int:
    from chronicled.daemon.instance import load_instance
    from chronicled.daemon.locations import data_directory, make_private
    from chronicled.daemon.stores import STORES
    from chronicled.events.codec import Codec
    from chronicled.events.errors import ImportRefused, InvalidName
    from chronicled.events.ids import check_name
    from chronicled.events.secret_forms import check_value
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.imports.destination import open_destination, open_nowhere
    from chronicled.storage.imports.discovery import discover, session_name
    from chronicled.storage.imports.importer import Importer, ImportOptions
    from chronicled.storage.imports.redacted import RedactedSource
    from chronicled.storage.imports.times import utc_reader
    from chronicled.storage.sqlite import LOG_NAME

    to_utc = utc_reader(options.timezone)
    secrets = read_values(options.redact)
    for name, value in secrets.items():
        check_value(check_name(name, "secret"), value)
    chosen = ImportOptions(check_name(options.tenant, "tenant"), options.timezone, options.dry_run)
    for name in filter(None, (options.tenant, options.session)):
        if name.startswith("_"):
            raise InvalidName("Names of tenants and sessions that begin with '_' are reserved.")
    data = Path(options.data or data_directory(os.environ))
    format, sources = discover(Path(options.path), options.format)
    if options.session is not None:
        check_name(options.session, "session")
        sources = _single(sources)
    nowhere = options.dry_run and not (data / LOG_NAME).exists()
    if not nowhere:
        make_private(str(data))
    words = vocabulary(units)
    refused = 0
    async with open_nowhere() if nowhere else open_destination(data, STORES) as (store, blobs):
        if not nowhere:
            load_instance(str(data), fresh=store.head == 0)
        importer = Importer(store, blobs, Codec(words.registry, words.chain), to_utc, _reporter(report))
        for found in sources:
            source = RedactedSource(found, secrets) if secrets else found
            session = options.session or session_name(source.name)
            try:
                outcome = await importer.run(source, format.conversion(), session, chosen)
            except ImportRefused as error:
                refused += 1
                printing.error(error.detail)
                continue
            if isinstance(source, RedactedSource):
                outcome.redacted = source.redacted
            _tell(outcome, options)
    return ACTION_FAILED if refused else OK


def _single(sources: Iterator[Source]) -> Iterator[Source]:
    """Return the only source.

    Raises:
        InvalidRequest: there are several, and one name.
    """
    found = list(islice(sources, 2))
    if len(found) > 1:
        raise InvalidRequest(f"There are several sessions, {found[0].name!r} first: --session names a single one.")
    return iter(found)


def _reporter(report: IO[bytes] | None) -> Callable[[str, Entry], None] | None:
    if report is None and not sys.stderr.isatty():
        return None
    from chronicled.events.codec import encode_json

    count = 0

    def note(session: str, entry: Entry) -> None:
        nonlocal count
        count += 1
        if count % SHOWN_EVERY == 0:
            printing.progress(f"{session}: {count} records")
        if report is not None:
            report.write(encode_json({"session": session, "record": entry}) + b"\n")

    return note


def _tell(outcome: Outcome, options: argparse.Namespace) -> None:
    if options.json:
        printing.json_line(outcome)
        return
    dry = " (dry run: nothing was written)" if options.dry_run else ""
    gone = f", {outcome.redacted} with a value replaced" if outcome.redacted else ""
    before = f", {outcome.earlier} imported before" if outcome.earlier else ""
    printing.line(
        f"{outcome.session}: {outcome.records} records of {outcome.format} became {outcome.events} events, "
        f"{outcome.opaque} opaque, {outcome.lossy} with something that found no place{gone}{before}{dry}"
    )
