"""`chronicled version`: print the version."""

from __future__ import annotations

import argparse
from importlib.metadata import version

from chronicled.cli import printing

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=execute)


def execute(options: argparse.Namespace) -> int:
    """Print it."""
    number = version("chronicled")
    if options.json:
        printing.json_line({"version": number})
    else:
        printing.line(f"chronicled {number}")
    return 0
