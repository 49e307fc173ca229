"""Units for commands that read a data directory by themselves: those of the daemon's configuration, or others."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from chronicled.cli import printing
from chronicled.events.errors import InvalidRequest

if TYPE_CHECKING:
    from chronicled.migrations.unit import Unit

__all__ = ["add_units", "chosen_units"]


def add_units(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which units are loaded."""
    parser.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="NAME",
        help="load this unit, and not those that the configuration names; may be repeated",
    )
    parser.add_argument("--no-units", action="store_true", help="load no unit, and read no configuration for it")
    parser.add_argument("--config", metavar="FILE", help="configuration that names them (default: as `serve` finds it)")


def chosen_units(options: argparse.Namespace, *, strict: bool = False) -> list[Unit]:
    """Return the units that `--unit` names; without it those of the configuration.

    Args:
        options: What `add_units` has added.
        strict: A broken unit is refused even where the daemon would start without it: what it knows is needed.

    Raises:
        InvalidRequest: units are named, and none are wanted.
        ConfigurationError: the configuration cannot be read.
        UnitBroken: one of them is broken; says how to go on without it.
    """
    from chronicled.daemon.units.loading import load_units
    from chronicled.events.errors import UnitBroken

    if options.no_units:
        if options.unit:
            raise InvalidRequest("--unit and --no-units exclude each other.")
        return []
    if options.unit:
        return load_units(options.unit).units
    from chronicled.daemon.configuration import load

    settings = load(options.config).units
    found = load_units(settings.load, skip_broken=True)
    if found.broken and (strict or not settings.skip_broken):
        listed = " ".join(f"{each.asked}: {each.reason}" for each in found.broken)
        raise UnitBroken(f"{listed} (--no-units goes on without any, --unit NAME with others)", units=len(found.broken))
    for each in found.broken:
        printing.error(f"{each.asked} is left out: {each.reason}")
    return found.units
