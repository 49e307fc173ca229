"""Which distributions a unit needs in a sandbox: its own and, through their metadata, all that they require."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution
from typing import Final

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement

from chronicled.events.errors import UnitBroken
from chronicled.runtimes.delivery.target import Target

__all__ = ["CARRIED", "normal_name", "release_of", "required"]

CARRIED: Final = frozenset({"chronicled", "msgspec"})
"""Distributions that are in every sandbox already; neither they nor what they require is brought."""
DISTRIBUTIONS_MAX: Final = 200


def normal_name(name: str) -> str:
    """Return a distribution's name as all its spellings have it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def release_of(distribution: Distribution) -> str:
    """Return name and version."""
    return f"{distribution.metadata['Name']} {distribution.version}"


def required(owner: str, roots: Iterable[str], target: Target) -> list[Distribution]:
    """Return the distributions of these names and all that they require there, each once, in order of their names.

    Args:
        owner: The unit, for errors.
        roots: Names of distributions.
        target: Where they are to work: requirements may depend on it.

    Raises:
        UnitBroken: one is not installed here, or its metadata cannot be read; says what to do.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting: list[tuple[str, frozenset[str], str]] = [(name, frozenset(), "") for name in roots]
    while waiting:
        name, extras, by = waiting.pop()
        normal = normal_name(name)
        if normal in CARRIED or (normal, extras) in seen:
            continue
        seen.add((normal, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            asked = f", which {by} requires," if by else ""
            raise UnitBroken(
                f"The unit {owner!r} needs the distribution {name}{asked} in sandboxes, and it is not installed here: "
                f"install it beside chronicled.",
                unit=owner,
            ) from None
        found[normal] = distribution
        if len(found) > DISTRIBUTIONS_MAX:
            raise UnitBroken(f"The unit {owner!r} needs more than {DISTRIBUTIONS_MAX} distributions.", unit=owner)
        waiting += [
            (requirement.name, frozenset(requirement.extras), distribution.metadata["Name"])
            for requirement in _requirements(owner, distribution, extras, target)
        ]
    return [found[name] for name in sorted(found)]


def _requirements(
    owner: str, distribution: Distribution, extras: frozenset[str], target: Target
) -> Sequence[Requirement]:
    environment = {name: str(value) for name, value in default_environment().items()}
    environment |= {"python_version": target.python, "platform_machine": target.machine, "sys_platform": "linux"}
    environment["python_full_version"] = f"{target.python}.0"
    wanted: list[Requirement] = []
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise UnitBroken(
                f"The unit {owner!r} needs {release_of(distribution)}, whose requirement {line!r} cannot be read: "
                f"{error}.",
                unit=owner,
            ) from None
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            wanted.append(requirement)
    return wanted
