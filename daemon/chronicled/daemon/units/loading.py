"""Finding and loading units. Nothing of a unit is used before all of it has been found right."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from chronicled.events.errors import ChronicledError, UnitBroken
from chronicled.migrations.unit import ENTRY_POINT_GROUP, REFERENCE, Unit
from chronicled.migrations.vocabulary import vocabulary

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

__all__ = ["Broken", "Loaded", "LoadedUnits", "entry_points", "load_unit", "load_units", "packages_of", "resolve"]

REASON_CHARACTERS = 500


class Loaded(NamedTuple):
    """A unit, and where it comes from."""

    asked: str
    """As the configuration names it."""
    reference: str
    unit: Unit
    distribution: Distribution | None
    """None where its module belongs to none."""

    @property
    def release(self) -> str:
        """Distribution and version, for people."""
        if self.distribution is None:
            return self.reference
        return f"{self.distribution.metadata['Name']} {self.distribution.version}"

    @property
    def distributions(self) -> tuple[str, ...]:
        """Names of what is brought into sandboxes."""
        if self.unit.distributions:
            return self.unit.distributions
        return () if self.distribution is None else (self.distribution.metadata["Name"],)


class Broken(msgspec.Struct, frozen=True):
    """A unit that was asked for and is not loaded."""

    asked: str
    reason: str


class LoadedUnits(NamedTuple):
    """What was asked for: what came of it, in that order."""

    loaded: tuple[Loaded, ...] = ()
    broken: tuple[Broken, ...] = ()

    @property
    def units(self) -> list[Unit]:
        """The units."""
        return [each.unit for each in self.loaded]


def entry_points() -> list[EntryPoint]:
    """Return what is installed in group `chronicled.units`, by name; nothing of it is imported."""
    # A daemon without units does not pay for it.
    import importlib.metadata

    return sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda each: (each.name, each.value))


def load_units(
    asked: Iterable[str], *, skip_broken: bool = False, judge: Callable[[Loaded], None] = lambda _: None
) -> LoadedUnits:
    """Load units in this order. Each is judged beside those before it, and a broken one leaves nothing behind.

    Args:
        asked: Names of entry points, or `package.module:Name`.
        skip_broken: Go on without those that are broken.
        judge: Raises `UnitBroken` for what is not right of a unit for other reasons.

    Raises:
        UnitBroken: one of them is broken; names all of them, and what is wrong with each.
    """
    loaded: list[Loaded] = []
    broken: list[Broken] = []
    for name in dict.fromkeys(asked):
        try:
            found = load_unit(name)
            vocabulary([*(each.unit for each in loaded), found.unit])
            judge(found)
        except UnitBroken as error:
            broken.append(Broken(name, error.detail))
        else:
            loaded.append(found)
    if broken and not skip_broken:
        listed = " ".join(f"{each.asked}: {each.reason}" for each in broken)
        raise UnitBroken(f"{listed} (units.skip_broken = true starts without it)", units=len(broken))
    return LoadedUnits(tuple(loaded), tuple(broken))


def load_unit(asked: str) -> Loaded:
    """Return one unit, imported and judged by itself.

    Raises:
        UnitBroken: it is not installed, cannot be imported, or is none; says what to do.
    """
    points = [point for point in entry_points() if point.name == asked]
    if len(points) > 1:
        listed = ", ".join(sorted(_owner(point) for point in points))
        raise UnitBroken(f"The unit {asked!r} is in several distributions ({listed}): name one as package.module:Name.")
    if points:
        reference, distribution = points[0].value.replace(" ", ""), points[0].dist
    elif REFERENCE.fullmatch(asked):
        reference, distribution = asked, _distribution_of(asked)
    else:
        known = ", ".join(point.name for point in entry_points()) or "none"
        raise UnitBroken(f"There is no unit {asked!r} here; installed are: {known}. Install its package with pip.")
    unit = resolve(reference, f"The unit {asked!r}")
    if not isinstance(unit, Unit):
        raise UnitBroken(f"The unit {asked!r} is not one: {reference} is a {type(unit).__name__}.")
    if points and unit.name != asked:
        raise UnitBroken(f"The entry point {asked!r} leads to a unit that is called {unit.name!r}: name them alike.")
    vocabulary([unit])
    for name in filter(None, (unit.policy, *unit.runtimes.values())):
        resolve(name, f"The unit {asked!r}")
    return Loaded(asked, reference, unit, distribution)


def resolve(reference: str, what: str) -> Any:
    """Return what stands behind `package.module:Name`.

    Raises:
        UnitBroken: it cannot be imported, or has no such name; begins with `what`.
    """
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ChronicledError as error:
        raise UnitBroken(f"{what} cannot be loaded: {error.detail}") from error
    except (Exception, SystemExit) as error:
        words = f"{type(error).__name__}: {error}"[:REASON_CHARACTERS]
        raise UnitBroken(f"{what} cannot be imported from {reference}: {words}.") from error


def packages_of(loaded: Loaded) -> set[str]:
    """Return the top-level packages in which code of the unit is that runs in the daemon."""
    unit = loaded.unit
    references = (loaded.reference, unit.package, unit.policy, *unit.runtimes.values())
    steps = (each.upgrade for each in unit.upcasters), (each.downgrade for each in unit.downcasters)
    functions = chain(*steps, (spec.payload for spec in unit.kinds))
    modules = (*references, *(str(getattr(each, "__module__", "")) for each in functions))
    found = {module.partition(":")[0].partition(".")[0] for module in modules}
    return found - {"", "chronicled"} - sys.stdlib_module_names


def _owner(point: EntryPoint) -> str:
    return "?" if point.dist is None else str(point.dist.metadata["Name"])


def _distribution_of(reference: str) -> Distribution | None:
    """Return the distribution that has the module, whose entry points name it or whose files have it."""
    import importlib.metadata

    for point in entry_points():
        if point.value.replace(" ", "") == reference:
            return point.dist
    top = reference.partition(":")[0].partition(".")[0]
    names: Sequence[str] = importlib.metadata.packages_distributions().get(top, ())
    return importlib.metadata.distribution(names[0]) if names else None
