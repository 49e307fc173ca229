"""`chronicled migrate up`: bring the stores of a data directory to this version, now and not at the next start."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from chronicled.cli import printing
from chronicled.cli.exit_code import OK

if TYPE_CHECKING:
    from chronicled.storage.schema import Backup

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and what room it needs")
    copy = parser.add_mutually_exclusive_group()
    copy.add_argument("--backup-to", metavar="DIR", help="where the copy of the log goes (default: beside it)")
    copy.add_argument("--no-backup", action="store_true", help="make no copy: you have one of your own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=bring_up)


def bring_up(options: argparse.Namespace) -> int:
    """Take the steps that are pending, with the directory's lock; a daemon that runs there is a refusal."""
    from chronicled.cli.audit import log_path
    from chronicled.daemon.stores import STORES
    from chronicled.storage.backup import backup_path
    from chronicled.storage.formats import bring_formats
    from chronicled.storage.lock import DirectoryLock
    from chronicled.storage.schema import Backup, schema_status

    path = log_path(options.data)
    backup = Backup(not options.no_backup, Path(options.backup_to).absolute() if options.backup_to else None)
    with DirectoryLock(path.parent):
        before, size = schema_status(path), path.stat().st_size
        needed = bool(before.pending) and backup.wanted
        copy = backup_path(path, before.current + 1, backup.directory) if needed else None
        steps = [*([before.unfinished] if before.unfinished else []), *before.pending]
        formats = bring_formats(path.parent, STORES, dry_run=True)
        if not options.dry_run:
            if steps:
                _apply(path, backup)
            bring_formats(path.parent, STORES)
    taken = [f"log: {step}" for step in steps] + list(formats)
    if options.json:
        where = None if copy is None else str(copy)
        printing.json_line({"dry_run": options.dry_run, "steps": taken, "backup": where, "bytes": size})
        return OK
    for step in taken:
        printing.line(f"{'would be applied' if options.dry_run else 'applied'}: {step}")
    if copy is not None:
        said = "the copy of before would be" if options.dry_run else "the copy of before is"
        printing.line(f"{said} {copy} ({size / (1 << 20):.1f} MiB)")
    if not taken:
        printing.line(f"nothing to do: every store in {path.parent} is at the newest step")
    return OK


def _apply(path: Path, backup: Backup) -> None:
    from chronicled.storage.sqlite import migrate_file

    def tell(what: str, done: int, total: int) -> None:
        printing.progress(f"{what}: {100 * done // total} %" if total else f"{what} ...")

    migrate_file(path, backup=backup, progress=tell)
    printing.progress("")
