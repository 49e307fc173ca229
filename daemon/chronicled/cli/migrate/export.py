"""`chronicled migrate export`: one session in another system's format, from its files or from a running daemon."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, with_client
from chronicled.cli.exit_code import OK
from chronicled.cli.units import add_units, chosen_units
from chronicled.client import Client
from chronicled.events.errors import InvalidRequest
from chronicled.migrations.formats.choice import FORMATS, writer_of

if TYPE_CHECKING:
    from chronicled.client.exports import SessionExport
    from chronicled.migrations.formats.chronicle import Tally

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("session", metavar="SESSION", help="the session")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    variants = "; ".join(f"{name}: {', '.join(variants)}" for name, variants in FORMATS.items())
    parser.add_argument("--variant", metavar="NAME", help=f"which form, by default the first ({variants})")
    parser.add_argument("--tenant", metavar="NAME", default="default", help="the session's tenant")
    parser.add_argument("--lane", metavar="NAME", help="asciicast: only this lane (default: all, side by side)")
    parser.add_argument("--idle-limit", metavar="SECONDS", type=float, help="asciicast: longest silence when played")
    parser.add_argument("--after", metavar="N", type=int, default=0, help="only events behind this position")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: standard output)")
    add_units(parser)
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--live", action="store_true", help="ask the running daemon, and read no file of its own")
    add_connection(parser)
    parser.set_defaults(execute=export)


def export(options: argparse.Namespace) -> int:
    """Write the export to the file or standard output, and sum up on standard error."""
    from chronicled.daemon.core_dumps import forbid_core_dumps
    from chronicled.daemon.locations import data_directory
    from chronicled.daemon.stores import STORES
    from chronicled.events.ids import check_name
    from chronicled.events.rule_redaction import RuleRedaction
    from chronicled.migrations.formats.chronicle import Tally
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.exports.log_chronicle import LogChronicle
    from chronicled.storage.exports.target import batches, write_file
    from chronicled.storage.formats import bring_formats

    if options.after < 0:
        raise InvalidRequest("--after is a position: 0 or more.")
    if options.idle_limit is not None and not 0 < options.idle_limit < math.inf:
        raise InvalidRequest("--idle-limit is a number of seconds above 0.")
    for name, value in (("--lane", options.lane), ("--idle-limit", options.idle_limit)):
        if value is not None and options.format != "asciicast":
            raise InvalidRequest(f"{name} is for asciicast; {options.format} always has the whole session.")
    write, _ = writer_of(options.format, options.variant, lane=options.lane, idle_seconds=options.idle_limit)
    if options.live or options.socket is not None:
        return _ask(options)
    units = chosen_units(options, strict=True)
    words = vocabulary(units)
    rules = RuleRedaction(rule for unit in units for rule in unit.redaction)
    forbid_core_dumps()
    data = Path(options.data or data_directory(os.environ))
    session = check_name(options.session, "session")
    tenant = check_name(options.tenant, "tenant")
    bring_formats(data, STORES, dry_run=True)  # refuses what a newer version keeps beside the log
    with LogChronicle(data, tenant, session, words.registry, words.chain, options.after, rules) as chronicle:
        tally = Tally(options.format, session, chronicle.head)
        pieces = write(chronicle, tally)
        if options.output is None:
            for batch in batches(pieces):
                sys.stdout.buffer.write(batch)
            sys.stdout.buffer.flush()
        else:
            write_file(Path(options.output), pieces, lambda size: printing.progress(f"{size} bytes"))
    _sum_up(tally, options)
    return OK


def _ask(options: argparse.Namespace) -> int:
    """Have the daemon make the export: whoever may call it needs no right to its files."""
    given = [name for name in ("data", "unit", "no_units", "config") if getattr(options, name)]
    given += ["tenant"] if options.tenant != "default" else []
    if given:
        raise InvalidRequest(f"--{given[0].replace('_', '-')} is for reading the files; a daemon answers with its own.")

    async def job(client: Client) -> int:
        session = await client.session(options.session, create=False)
        asked = {"after": options.after, "lane": options.lane, "idle_limit": options.idle_limit}
        async with session.export(options.format, options.variant, **asked) as export:
            size = await _keep(export, options.output)
        summary = {"format": options.format, "session": session.name, "head": export.head, "bytes": size}
        if options.json:
            sys.stderr.write(json.dumps(summary) + "\n")
        else:
            where = "" if options.output is None else f" to {options.output}"
            printing.note(f"{size} bytes up to position {export.head}{where}")
        return OK

    return with_client(options, job)


async def _keep(export: SessionExport, output: str | None) -> int:
    """Write what comes to the file, which is whole or not there, or to standard output; return how much it was."""
    from anyio import from_thread, to_thread

    from chronicled.storage.exports.target import batches, write_file

    async with aclosing(export.pieces()) as coming:

        async def following() -> bytes | None:
            return await anext(coming, None)

        def pieces() -> Iterator[bytes]:
            while (piece := from_thread.run(following)) is not None:
                yield piece

        def write() -> int:
            if output is not None:
                return write_file(Path(output), pieces(), lambda size: printing.progress(f"{size} bytes"))
            size = 0
            for batch in batches(pieces()):
                size += sys.stdout.buffer.write(batch)
            sys.stdout.buffer.flush()
            return size

        return await to_thread.run_sync(write)


def _sum_up(tally: Tally, options: argparse.Namespace) -> None:
    import msgspec

    if options.json:
        sys.stderr.write(msgspec.json.encode(tally).decode() + "\n")
        return
    for text in _remarks(tally):
        sys.stderr.write(f"chronicled: {text}\n")
    where = "" if options.output is None else f" to {options.output}"
    printing.note(f"{tally.events} events up to position {tally.head}: {tally.written} records{where}")


def _remarks(tally: Tally) -> Iterator[str]:
    if tally.opaque:
        yield f"{tally.opaque} events cannot be read here and were exported as they are stored"
    if tally.erased:
        yield f"{tally.erased} events were erased: their payload is gone"
    if tally.redacted:
        yield f"in {tally.redacted} events a secret was replaced that was registered after they had been stored"
    if tally.running:
        yield f"{tally.running} actions had not ended yet"
    if tally.missing_blobs:
        yield f"{tally.missing_blobs} blobs are not there any more: what stands of them in their events was exported"
    if tally.left_out:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(tally.left_out.items()))
        yield f"{tally.format} has no place for {sum(tally.left_out.values())} events: {kinds}"
