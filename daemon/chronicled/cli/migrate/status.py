"""`chronicled migrate status`: what versions the log holds, and whether this program can read them all."""

from __future__ import annotations

import argparse

from chronicled.cli import printing
from chronicled.cli.audit import log_path
from chronicled.cli.exit_code import ACTION_FAILED, OK

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=show_status)


def show_status(options: argparse.Namespace) -> int:
    """Show both; exit code 1 when a kind or version in the log cannot be read here (such events stay opaque)."""
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.census import count_kinds
    from chronicled.storage.schema import schema_status

    path = log_path(options.data)
    registry, _ = vocabulary()
    schema = schema_status(path)
    kinds = count_kinds(path)
    rows: list[tuple[str, ...]] = [("CATEGORY", "KIND", "VERSION", "EVENTS", "STATUS")]
    unreadable = 0
    for counted in kinds:
        current = registry.find_current(counted.category, counted.kind)
        if current is None or current.version < counted.version:
            status = "opaque: not known here" if current is None else f"opaque: newer than {current.version}"
            unreadable += counted.events
        else:
            status = "current" if current.version == counted.version else f"migrated to {current.version} on reading"
        rows.append((counted.category, counted.kind, str(counted.version), str(counted.events), status))
    if options.json:
        printing.json_line({"schema": schema, "kinds": kinds, "unreadable": unreadable})
    else:
        pending = f"; to be applied at the next start: {', '.join(schema.pending)}" if schema.pending else ""
        printing.line(f"database schema: step {schema.current} of {schema.newest}{pending}")
        printing.table(rows)
    return ACTION_FAILED if unreadable else OK
