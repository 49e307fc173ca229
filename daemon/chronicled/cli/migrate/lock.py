"""`chronicled migrate lock`: write down each version of each kind's payload, or check that it is still the same."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from chronicled.cli import printing
from chronicled.cli.exit_code import ACTION_FAILED, OK
from chronicled.events.errors import InvalidRequest, Refused

if TYPE_CHECKING:
    from chronicled.events.kind import KindSpec

__all__ = ["configure"]

OURS = "chronicled.migrations"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 unless code and lock agree")
    parser.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="NAME",
        help="lock this unit's kinds, not ours; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=lock_schemas)


def lock_schemas(options: argparse.Namespace) -> int:
    """Check or write the lock of each unit, or that of the built-in kinds.

    Raises:
        UnitBroken: a unit cannot be loaded, or a version of it has no way to the current one.
        InvalidRequest: a unit says not in which package its lock is.
        Refused: a schema changed without a new version, or is gone; or the lock cannot be written. Nothing was.
    """
    from chronicled.migrations.lock import locked, problems

    wrong: list[str] = []
    rows: list[dict[str, str | list[str]]] = []
    for package, specs in _locks(options.unit):
        lock = locked(package)
        found = problems(specs, lock)
        added = [] if options.check else _write(package, specs, lock)
        wrong += found if options.check else []
        rows.append({"package": package, "problems": found if options.check else [], "added": added})
        if not options.json:
            for text in found if options.check else [f"{package}: {name} is locked now" for name in added]:
                printing.line(text)
            if not found:
                printing.line(f"{package}: the lock has every version of {len({spec.kind for spec in specs})} kinds")
    if options.json:
        printing.json_line(rows)
    return ACTION_FAILED if wrong else OK


def _locks(asked: Sequence[str]) -> Iterator[tuple[str, Sequence[KindSpec]]]:
    from chronicled.daemon.units.loading import load_units
    from chronicled.events.kinds import BUILTIN
    from chronicled.migrations.vocabulary import vocabulary

    units = load_units(asked).units
    vocabulary(units)
    if not units:
        yield OURS, list(BUILTIN)
    for unit in units:
        if not unit.package:
            raise InvalidRequest(f"The unit {unit.name!r} names no `package`; its lock is kept there.")
        yield unit.package, unit.kinds


def _write(package: str, specs: Sequence[KindSpec], lock: dict[str, str]) -> list[str]:
    """Write what is new into the package's lock, in one step, and return the names."""
    from chronicled.migrations.lock import LOCK_NAME, merged, render

    try:
        whole = merged(specs, lock)
    except ValueError as error:
        raise Refused(f"The lock of {package} stays as it is. {error}") from None
    added = sorted(whole.keys() - lock.keys())
    if added:
        path = Path(str(files(package).joinpath(LOCK_NAME)))
        beside = path.with_name(f".{LOCK_NAME}.{os.getpid()}")
        try:
            beside.write_text(render(whole), encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise Refused(f"The lock cannot be written to {path}: {error}.") from None
        finally:
            beside.unlink(missing_ok=True)
    return added
