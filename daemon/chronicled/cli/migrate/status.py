"""`chronicled migrate status`: how far each store is, what versions the log holds, and whether all can be read here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from chronicled.cli import printing
from chronicled.cli.audit import log_path
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.cli.units import add_units, chosen_units

if TYPE_CHECKING:
    from chronicled.daemon.stores import BackupFile, StoreStatus
    from chronicled.events.codec import Codec
    from chronicled.storage.census import KindCount
    from chronicled.storage.examination import Unreadable
    from chronicled.storage.log_file import LogFile

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--deep", action="store_true", help="read every payload, to find broken ones too")
    add_units(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=show_status)


def show_status(options: argparse.Namespace) -> int:
    """Show stores and kinds; exit code 1 when something cannot be read here (such events stay opaque)."""
    from chronicled.daemon.stores import backup_files, store_status
    from chronicled.events.codec import Codec
    from chronicled.events.errors import SchemaTooNew
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.census import count_kinds
    from chronicled.storage.examination import examine
    from chronicled.storage.log_file import open_log_file
    from chronicled.storage.schema import schema_status

    path = log_path(options.data)
    registry, chain = vocabulary(chosen_units(options))
    codec = Codec(registry, chain)
    with open_log_file(path) as log:
        kinds = count_kinds(path)
        if options.deep:
            opaque = examine(log, codec, lambda done, total: printing.progress(f"{done} of {total} events"))
        else:
            opaque = _by_label(log, codec, kinds)
    try:
        schema = schema_status(path)
        known = f"database schema: step {schema.current} of {schema.newest}"
        known += f"; to be applied at the next start: {', '.join(schema.pending)}" if schema.pending else ""
        known += f"; begun and not done: {schema.unfinished}" if schema.unfinished else ""
        newer = None
    except SchemaTooNew as error:
        schema, known, newer = None, "", error
    stores, backups = store_status(path.parent), backup_files(path)
    unreadable = sum(row.events for row in opaque if row.why != "erased")
    if options.json:
        found = {"kinds": kinds, "unreadable": unreadable, "opaque": opaque, "deep": options.deep}
        found |= {"stores": stores, "backups": backups}
        printing.json_line({"schema": schema if newer is None else {"newer": str(newer), **newer.extra}, **found})
    else:
        printing.line(known or f"database schema: {newer}")
        _print_stores(stores, backups)
        _print_kinds(codec, kinds)
        _print_opaque(opaque, deep=options.deep)
    return ACTION_FAILED if unreadable or newer or any(store.current > store.newest for store in stores) else OK


def _print_stores(stores: list[StoreStatus], backups: list[BackupFile]) -> None:
    for store in stores:
        if store.current > store.newest:
            printing.line(f"store {store.store}: format {store.current}, newer than {store.newest}, known here")
        elif store.pending:
            steps = ", ".join(store.pending)
            printing.line(f"store {store.store}: format {store.current} of {store.newest}; pending: {steps}")
    if all(store.current == store.newest for store in stores):
        printing.line(f"other stores: {', '.join(store.store for store in stores)}: all current")
    for backup in backups:
        size = backup.bytes / (1 << 20)
        printing.line(f"copy from before a migration: {backup.path} ({size:.1f} MiB); remove it when you are content")


def _by_label(log: LogFile, codec: Codec, kinds: tuple[KindCount, ...]) -> list[Unreadable]:
    """Return what cannot be read for its kind or version alone, without reading payloads."""
    from chronicled.storage.examination import POSITIONS_MAX, Unreadable

    found: list[Unreadable] = []
    for counted in kinds:
        unread = codec.unknown(counted.category, counted.kind, counted.version)
        if unread is not None:
            why, reason = unread
            places = log.places(counted.category, counted.kind, counted.version, POSITIONS_MAX)
            found.append(
                Unreadable(
                    category=counted.category,
                    kind=counted.kind,
                    version=counted.version,
                    why=why,
                    events=counted.events,
                    reason=reason,
                    positions=list(places),
                )
            )
    return sorted(found, key=lambda row: (-row.events, row.positions))


def _print_kinds(codec: Codec, kinds: tuple[KindCount, ...]) -> None:
    rows: list[tuple[str, ...]] = [("CATEGORY", "KIND", "VERSION", "EVENTS", "STATUS")]
    for counted in kinds:
        key = (counted.category, counted.kind, counted.version)
        spec, current = codec.registry.find(*key), codec.registry.find_current(*key)
        unread = codec.unknown(*key)
        if unread is not None or spec is None or current is None:
            status = f"opaque: {unread[1]}" if unread else "opaque"
        elif spec is current:
            status = "current"
        else:
            name = "" if current.kind == spec.kind else f"{current.kind} "
            status = f"migrated to {name}{current.version} on reading"
        rows.append((counted.category, counted.kind, str(counted.version), str(counted.events), status))
    printing.table(rows)


def _print_opaque(opaque: list[Unreadable], *, deep: bool) -> None:
    if not opaque:
        known = "every kind and version is known (--deep reads the payloads too)"
        printing.line("every payload can be read" if deep else known)
        return
    printing.line("")
    rows: list[tuple[str, ...]] = [("CANNOT BE READ", "KIND", "VERSION", "EVENTS", "FOR EXAMPLE AT", "REASON")]
    for row in opaque:
        places = ", ".join(map(str, row.positions)) + (", ..." if row.events > len(row.positions) else "")
        rows.append((row.why, row.kind, str(row.version), str(row.events), places, row.reason[:200]))
    printing.table(rows)
