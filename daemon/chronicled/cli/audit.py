"""`chronicled audit`: verify the record, beside a running daemon or without one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from chronicled.cli import printing
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.daemon.locations import data_directory
from chronicled.events.errors import InvalidRequest, LogCorrupt

__all__ = ["configure", "log_path"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    verify = verbs.add_parser("verify", help="recompute every digest, leaf, sequence and root of the log")
    verify.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    verify.add_argument("--json", action="store_true", help="print JSON")
    verify.set_defaults(execute=verify_log)


def log_path(directory: str | None) -> Path:
    """Return where the log is.

    Raises:
        InvalidRequest: there is none.
    """
    from chronicled.storage.sqlite import LOG_NAME

    path = Path(directory or data_directory(os.environ)) / LOG_NAME
    if not path.exists():
        raise InvalidRequest(f"There is no log at {path}; name the daemon's data directory with --data.")
    return path


def verify_log(options: argparse.Namespace) -> int:
    """Verify the log; exit code 1 when something is wrong, the first bad position first."""
    from chronicled.storage.verification import verify_file

    path = log_path(options.data)
    try:
        report = verify_file(path, progress=lambda done, total: printing.progress(f"{done} of {total} events"))
    except LogCorrupt as error:
        printing.error(f"{path} cannot be verified: {error.detail}")
        return ACTION_FAILED
    if options.json:
        printing.json_line(report)
    elif not report.problems:
        printing.line(f"ok: {report.events} events verify; root {report.root}")
    else:
        for problem in report.problems:
            printing.line(problem)
        printing.error(f"{path} does not verify: {len(report.problems)} problems, the first bad position first.")
    return ACTION_FAILED if report.problems else OK
