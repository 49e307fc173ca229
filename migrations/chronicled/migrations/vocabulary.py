"""The vocabulary: all that a process can read, our own kinds and those of the units that it has loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from chronicled.events.errors import InvalidName, UnitBroken
from chronicled.events.kinds import BUILTIN
from chronicled.events.registry import Registry
from chronicled.migrations.builtin import DOWNCASTERS, UPCASTERS
from chronicled.migrations.chain import Chain
from chronicled.migrations.unit import Unit

__all__ = ["Vocabulary", "vocabulary"]


class Vocabulary(NamedTuple):
    """A registry and the chain that fits it: every kind has a path from each of its versions to its current one."""

    registry: Registry
    chain: Chain


def vocabulary(units: Iterable[Unit] = ()) -> Vocabulary:
    """Return the built-in kinds together with those of the units, checked.

    Raises:
        UnitBroken: a unit is not right, alone or beside those before it; it names the unit and what is wrong.
    """
    specs, upcasters, downcasters = list(BUILTIN), list(UPCASTERS), list(DOWNCASTERS)
    names: set[str] = set()
    for unit in units:
        try:
            unit.check()
            if unit.name in names:
                raise ValueError("another unit has the same name")
            # Alone first: what is wrong is then wrong with this one.
            chain = Chain([*UPCASTERS, *unit.upcasters], [*DOWNCASTERS, *unit.downcasters])
            chain.check_readers(_checked(Registry([*BUILTIN, *unit.kinds]), chain).registry)
        except (ValueError, InvalidName) as error:
            raise UnitBroken(f"The unit {unit.name!r} is not right: {error}.", unit=str(unit.name)) from None
        except Exception as error:  # nothing says that its fields hold what they should
            words = f"{type(error).__name__}: {error}"
            raise UnitBroken(f"The unit {unit.name!r} is not right: {words}.", unit=str(unit.name)) from None
        names.add(unit.name)
        specs += unit.kinds
        upcasters += unit.upcasters
        downcasters += unit.downcasters
    return _checked(Registry(specs), Chain(upcasters, downcasters))


def _checked(registry: Registry, chain: Chain) -> Vocabulary:
    registry.check()
    chain.check(registry)
    return Vocabulary(registry, chain)
