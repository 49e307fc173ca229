"""`chronicled migrate rewrite OLD NEW`: copy a log into a new data directory, every payload in its current version."""

from __future__ import annotations

import argparse
from pathlib import Path

from chronicled.cli import printing
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.cli.units import add_units, chosen_units

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument("old", metavar="OLD", help="a data directory in which no daemon runs; it is not changed")
    parser.add_argument("new", metavar="NEW", help="the new data directory; missing or empty")
    parser.add_argument(
        "--accept-damage", action="store_true", help="go on although OLD does not verify; the new log says so"
    )
    add_units(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=write_anew)


def write_anew(options: argparse.Namespace) -> int:
    """Write the log anew; exit code 1 when blobs that events name were missing or damaged before already."""
    from chronicled.daemon.stores import CARRIED_NAMES, STORES
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.formats import bring_formats
    from chronicled.storage.rewrite import rewrite

    def tell(what: str, done: int, total: int) -> None:
        printing.progress(f"{what}: {done} of {total}" if total else f"{what} ...")

    old, new = Path(options.old), Path(options.new)
    words = vocabulary(chosen_units(options, strict=True))
    bring_formats(old, STORES, dry_run=True)  # refuses what a newer version keeps beside the log
    report = rewrite(old, new, words, CARRIED_NAMES, accept_damage=options.accept_damage, progress=tell)
    printing.progress("")
    if options.json:
        printing.json_line(report)
    else:
        printing.line(f"ok: {report.events} events in {new}, {report.events_changed} of {report.events_before} changed")
        printing.line(f"incarnation {report.incarnation}; root {report.root}")
        former = "verified" if report.verified else "did NOT verify"
        printing.line(f"the former log {former}; its root {report.root_before} stands in the first event")
    if report.blobs_missing:
        for digest in report.blobs_missing:
            printing.error(f"blob {digest} is missing or damaged in {old}, and so it is in {new}")
        return ACTION_FAILED
    return OK
