"""The command line: `chronicled`. Each command is a module; only the one that runs is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from chronicled.cli import printing
from chronicled.cli.exit_code import BROKEN_PIPE, CANCELLED, REFUSED, USAGE, exit_code_of
from chronicled.events.errors import ChronicledError

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = {
    "serve": "run the daemon",
    "session": "create, list, show and close sessions",
    "secret": "keep values out of everything that is stored and shown",
    "run": "run a command, stream its output, end with its exit code",
    "submit": "submit any action",
    "output": "print what an action printed, follow it while it runs, end with its exit code",
    "files": "put files into a sandbox, get them out, list them",
    "input": "type to a running action",
    "interrupt": "send a signal to a running action",
    "cancel": "end an action",
    "image": "list, build, prefetch and prune images",
    "events": "print the log, or follow it",
    "cursor": "remember how far a consumer of the log is",
    "audit": "verify the record",
    "migrate": "show what versions the log holds, bring it on, import and export",
    "carrier": "make and check what goes into containers",
    "plugins": "list what third parties add: installed, loaded, broken",
    "doctor": "check whether this machine is fit",
    "completion": "print what a shell needs to complete commands, sessions and ids",
    "version": "print the version",
}
EPILOG: Final = """\
exit codes: 0 ok, 1 action failed, 2 usage, 3 daemon not reachable, 4 refused, 124 timeout;
`run` ends with the command's own code, and with 125 where the failure is ours."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = next((argument for argument in given if not argument.startswith("-")), None)
    try:
        parser = _parser(name)
        options, unknown = parser.parse_known_args(given)
        if unknown:
            # Most likely the command's own: `chronicled run ls -l`.
            hint = ": options of the command itself stand behind `--`" if name == "run" else ""
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        if "execute" not in options:
            parser.print_help(sys.stderr)
            return USAGE
        return int(options.execute(options))
    except ChronicledError as error:
        printing.error(error.detail)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return CANCELLED
    except BrokenPipeError:
        # Whoever read us is gone (`chronicled events | head`); what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        # A file that may not be read, a terminal that is gone: a person needs the system's word and not our stack.
        printing.error(": ".join(str(each) for each in (error.filename, error.strerror or error) if each))
        return REFUSED


def _version(options: argparse.Namespace) -> int:
    from chronicled.cli.version import execute

    options.json = False
    return execute(options)


def _parser(name: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chronicled",
        description="Runs what AI agents ask for, in sandboxes, and keeps the chronicle of it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="store_const",
        const=_version,
        dest="execute",
        default=argparse.SUPPRESS,
        help="print the version",
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    for command, summary in COMMANDS.items():
        sub = commands.add_parser(command, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if command == name:
            # Importing the client costs a quarter of a second; `serve` and `version` do without.
            importlib.import_module(f"chronicled.cli.{command}").configure(sub)
    return parser
