"""The unit: all that a third party ships, in one struct, named by an entry point of group `chronicled.units`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from chronicled.events.envelope import LIFECYCLE
from chronicled.events.kind import KindSpec
from chronicled.events.redaction_rule import RedactionRule
from chronicled.migrations.chain import Downcaster, Upcaster

__all__ = ["ENTRY_POINT_GROUP", "REFERENCE", "Unit"]

ENTRY_POINT_GROUP: Final = "chronicled.units"
REFERENCE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
"""`package.module:Name`."""

_OWNER: Final = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED: Final = frozenset({"chronicled", "openhands", "runtime", "session"})


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """What a third party adds: kinds with their history, and whatever executes, guards and houses them.

    Importing it must be cheap and without effects: what runs elsewhere (executors in the sandbox, runtimes in the
    worker) is only named here, as `package.module:Name`, and imported where it is needed.
    """

    name: str
    """The owner's prefix: every kind of it begins with this and a dot."""
    package: str = ""
    """Package that holds `schema.lock` and the folder `golden` of these kinds."""
    kinds: tuple[KindSpec, ...] = ()
    """Actions and observations, every version ever released, in order."""
    upcasters: tuple[Upcaster, ...] = ()
    downcasters: tuple[Downcaster, ...] = ()
    executors: tuple[str, ...] = ()
    """Classes that execute the actions inside sandboxes."""
    distributions: tuple[str, ...] = ()
    """Distributions to bring into sandboxes, with all that they require; by default those that have the executors."""
    runtimes: Mapping[str, str] = {}
    """Factories of runtimes by name, which begins with the owner's prefix too."""
    redaction: tuple[RedactionRule, ...] = ()
    policy: str = ""
    """A function that may reject actions before they are accepted: see `chronicled.events.policy`."""

    def check(self) -> None:
        """Check what the unit shows by itself; whether its kinds fit together, `vocabulary` tells.

        Raises:
            ValueError: something does not bear the owner's prefix, or is not named as it must be.
        """
        if _OWNER.fullmatch(self.name) is None or self.name in _RESERVED:
            raise ValueError(f"{self.name!r} cannot be an owner's prefix: that is one lower case word, and not ours")
        for kind in self._kinds():
            self._check_owned(kind, "kind")
        for spec in self.kinds:
            if spec.category == LIFECYCLE:
                raise ValueError(f"{spec.kind}: a unit has actions and observations, lifecycle events are ours")
        for name in self.runtimes:
            self._check_owned(name, "runtime")
        for reference in (*self.executors, *self.runtimes.values(), *filter(None, (self.policy,))):
            if REFERENCE.fullmatch(reference) is None:
                raise ValueError(f"{reference!r} is not of the form package.module:Name")
        for rule in self.redaction:
            rule.check(self.name)
        if not all(isinstance(name, str) and name for name in self.distributions):  # pyright: ignore[reportUnnecessaryIsInstance]  # nobody has checked it
            raise ValueError("distributions are names of distributions")

    def _kinds(self) -> Iterator[str]:
        steps: Iterable[Upcaster | Downcaster] = (*self.upcasters, *self.downcasters)
        yield from (spec.kind for spec in self.kinds)
        yield from (kind for spec in self.kinds for kind, _ in spec.becomes)
        yield from (step.kind for step in steps)

    def _check_owned(self, name: str, what: str) -> None:
        if not name.startswith(f"{self.name}."):
            raise ValueError(
                f"{what} {name!r} does not bear the owner's prefix {self.name!r} (it would be "
                f"'{self.name}.{name.rpartition('.')[2]}')"
            )
