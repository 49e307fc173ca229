"""`chronicled migrate`: what the log holds, and how it moves on. Each verb is a module of its own."""

from __future__ import annotations

import argparse
import importlib
import keyword
from typing import Final

__all__ = ["VERBS", "configure"]

VERBS: Final = {
    "status": "show the schema step of the database and the versions of its payloads",
    "lock": "write down the schema of each version of each kind, or check it",
    "up": "bring the stores to this version now, and not at the daemon's next start",
    "rewrite": "copy a log into a new data directory, every payload in its current version",
    "import": "bring in sessions of other systems",
    "export": "write one session in another system's format",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's subcommands."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb, summary in VERBS.items():
        sub = verbs.add_parser(verb, help=summary, description=summary[0].upper() + summary[1:] + ".")
        module = f"{verb}_" if keyword.iskeyword(verb) else verb
        importlib.import_module(f"chronicled.cli.migrate.{module}").configure(sub)
