"""`chronicled carrier`: make, check and list carriers: the interpreter and action server that go into containers.

The daemon makes what it needs by itself. This is for making it beforehand, where apt and the network are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from chronicled.cli import printing
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.daemon.locations import data_directory, make_private

__all__ = ["CARRIERS_NAME", "configure"]

CARRIERS_NAME: Final = "carriers"
"""Folder in the data directory."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    build = verbs.add_parser("build", help="make the carrier of this version, if it is not there; needs apt and pip")
    build.add_argument("--architecture", metavar="NAME", help="amd64 or arm64 (default: this machine's)")
    build.add_argument("--fresh", action="store_true", help="fetch the packages again, for their latest versions")
    build.set_defaults(execute=make)
    verify = verbs.add_parser("verify", help="recompute the digest of every carrier, or of those named")
    verify.add_argument("path", metavar="PATH", nargs="*", help="folder of a carrier")
    verify.set_defaults(execute=check)
    ls = verbs.add_parser("ls", help="list the carriers")
    ls.set_defaults(execute=show)
    rm = verbs.add_parser(
        "rm", help="remove all carriers, or those named: their folders are read-only; no container may have them"
    )
    rm.add_argument("path", metavar="PATH", nargs="*", help="folder of a carrier")
    rm.set_defaults(execute=remove)
    for verb in (build, verify, ls, rm):
        verb.add_argument(
            "--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)"
        )
        verb.add_argument("--json", action="store_true", help="print JSON")


def directory_of(options: argparse.Namespace) -> Path:
    """Return where carriers are."""
    return Path(options.data or data_directory(os.environ)) / CARRIERS_NAME


def make(options: argparse.Namespace) -> int:
    """Make the carrier and print its path."""
    from chronicled.runtimes.carrier import ensure_carrier

    architecture = options.architecture or os.uname().machine
    if options.data is None:
        make_private(data_directory(os.environ))  # as the daemon would: it may not be there yet
    printing.note("making the carrier; the first time takes half a minute")
    made = ensure_carrier(directory_of(options), architecture, fresh=options.fresh)
    if options.json:
        printing.json_line(made._asdict())
    else:
        printing.line(made.path)
    return OK


def check(options: argparse.Namespace) -> int:
    """Recompute digests; exit code 1 when a carrier is not what its name says."""
    from chronicled.runtimes.carrier import CarrierCorrupt, verify

    paths = [Path(path) for path in options.path] or sorted(directory_of(options).glob("sha256-*"))
    broken = 0
    for path in paths:
        digest, problem = "", None
        try:
            digest = verify(path)
        except CarrierCorrupt as error:
            problem = error.detail
            broken += 1
        if options.json:
            printing.json_line({"path": str(path), "digest": digest, "problem": problem})
        else:
            printing.line(f"ok: {path}" if problem is None else f"bad: {problem}")
    if not paths and not options.json:
        printing.note(f"there are no carriers in {directory_of(options)}")
    return ACTION_FAILED if broken else OK


def remove(options: argparse.Namespace) -> int:
    """Remove carriers; exit code 1 when something of one stays."""
    from chronicled.runtimes.carrier.listing import read_manifest
    from chronicled.runtimes.carrier.place import remove_tree

    paths = [Path(path) for path in options.path] or sorted(directory_of(options).glob("sha256-*"))
    for path in paths:
        if options.path:
            read_manifest(path)  # whatever else is named is somebody's own
        remove_tree(path)
        if options.json:
            printing.json_line({"path": str(path), "removed": not path.exists()})
        elif path.exists():
            printing.error(f"{path} cannot be removed.")
    return ACTION_FAILED if any(path.exists() for path in paths) else OK


def show(options: argparse.Namespace) -> int:
    """List carriers with the frames that they speak."""
    from chronicled.runtimes.carrier import carriers

    found = carriers(directory_of(options))
    if options.json:
        for carrier in found:
            printing.json_line(carrier._asdict())
        return OK
    rows: list[tuple[str, ...]] = [("ARCHITECTURE", "PROTOCOL", "PATH")]
    rows += [(each.architecture, f"{each.protocol_min} to {each.protocol}", each.path) for each in found]
    printing.table(rows)
    return OK
