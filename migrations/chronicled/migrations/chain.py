"""Upcasters and the chain that they form: an old payload becomes a current one, step by step, on read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from chronicled.events.envelope import Category
from chronicled.events.registry import Registry

__all__ = ["Chain", "Downcaster", "Upcaster"]


class Upcaster(msgspec.Struct, frozen=True):
    """Brings payloads of one kind from `version` to `version + 1`.

    `upgrade` is pure and total over what `version` allowed: plain JSON values in and out, no I/O, no clock. It may
    change the value that it is given.
    """

    category: Category
    kind: str
    version: int
    upgrade: Callable[[dict[str, Any]], dict[str, Any]]


class Downcaster(msgspec.Struct, frozen=True):
    """Brings payloads of one kind from `version + 1` back to `version`, for readers that know no newer one.

    `downgrade` is pure and total over what `version + 1` allows. It may change the value that it is given.
    """

    category: Category
    kind: str
    version: int
    downgrade: Callable[[dict[str, Any]], dict[str, Any]]


class Chain:
    """All upcasters, by kind and version; implements the `UpcasterChain` protocol of the codec."""

    def __init__(self, upcasters: Iterable[Upcaster] = ()) -> None:
        self._steps: dict[tuple[Category, str, int], Upcaster] = {}
        for step in upcasters:
            key = (step.category, step.kind, step.version)
            if key in self._steps:
                raise ValueError(f"{step.category} {step.kind}: two upcasters from version {step.version}")
            self._steps[key] = step

    def check(self, registry: Registry) -> None:
        """Check that every kind has a path from each of its versions to its current one, and no step leads nowhere.

        Raises:
            ValueError: a step is missing or superfluous; the message names it.
        """
        needed: set[tuple[Category, str, int]] = set()
        for spec in registry:
            current = registry.current(spec.category, spec.kind)
            if spec.version < current.version:
                needed.add(spec.key)
        for category, kind, version in sorted(needed - self._steps.keys()):
            raise ValueError(f"{category} {kind}: no upcaster from version {version} to {version + 1}")
        for category, kind, version in sorted(self._steps.keys() - needed):
            raise ValueError(f"{category} {kind}: an upcaster from version {version}, which is no old version")

    def upcast(self, category: Category, kind: str, version: int, payload: Any) -> Any:
        """Apply every step from `version` on.

        Raises:
            LookupError: there is no step from that version.
            Whatever a step raises on a payload that its version did not allow.
        """
        step = self._steps.get((category, kind, version))
        if step is None:
            raise LookupError(f"{category} {kind}: no upcaster from version {version}")
        while step is not None:
            payload = step.upgrade(payload)
            version += 1
            step = self._steps.get((category, kind, version))
        return payload
