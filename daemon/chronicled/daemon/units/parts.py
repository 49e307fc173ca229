"""The units' part of the composition root: what they bring, and where it goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from anyio import to_thread

from chronicled.daemon.configuration import UnitSettings
from chronicled.daemon.fail_stop import stop_stuck
from chronicled.daemon.locations import make_private
from chronicled.daemon.units.loading import Loaded, LoadedUnits, load_units, packages_of, resolve
from chronicled.daemon.units.memory import KindMemory
from chronicled.daemon.units.policy import OwnedPolicy, Policies
from chronicled.events.errors import ConfigurationError, UnitBroken
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.migrations.vocabulary import Vocabulary, vocabulary
from chronicled.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from chronicled.daemon.units.stuck_watch import StuckWatch
    from chronicled.runtimes.delivery.delivery import Delivery, UnitParcel

__all__ = ["UnitParts", "judge_delivery", "parcel_of"]

TREES_NAME = "units"
BUILTIN_RUNTIMES = frozenset({"process", "docker"})

log: Any = structlog.get_logger("chronicled")


def parcel_of(loaded: Loaded) -> UnitParcel:
    """Return what the unit wants in sandboxes."""
    from chronicled.runtimes.delivery.delivery import UnitParcel

    return UnitParcel(loaded.unit.name, loaded.unit.executors, loaded.distributions)


class UnitParts:
    """What the loaded units bring to a daemon.

    Args:
        settings: What to load.
        data: The data directory; only read here.

    Raises:
        UnitBroken: a unit is broken, and broken ones are not to be skipped.
    """

    def __init__(self, settings: UnitSettings, data: str) -> None:
        self.found: LoadedUnits = load_units(settings.load, skip_broken=settings.skip_broken, judge=judge_delivery)
        for broken in self.found.broken:
            log.error("unit_skipped", unit=broken.asked, detail=broken.reason)
        for each in self.found.loaded:
            log.info("unit_loaded", unit=each.unit.name, release=each.release, kinds=len(each.unit.kinds))
        self._memory = KindMemory(data)
        for broken in self._memory.guarding(self.found):
            raise UnitBroken(
                f"{broken.asked}: {broken.reason} It has a policy, and is not skipped for that: nobody would ask it. "
                "Take it out of units.load if that is meant."
            )
        registry, chain = vocabulary(self.found.units)
        self._settings = settings
        self._data = data
        self._memory.stand_in(registry, self.found)
        self.vocabulary = Vocabulary(registry, chain)

    async def delivery(self) -> Delivery | None:
        """Remember the units, and return what brings them into sandboxes: None when none has executors.

        Raises:
            UnitBroken: one cannot be brought there.
            OSError: the disk.
        """
        await to_thread.run_sync(self._memory.keep, self.found.loaded)
        if not any(unit.executors for unit in self.found.units):
            return None
        from chronicled.runtimes.delivery.delivery import Delivery

        directory = make_private(os.path.join(self._data, TREES_NAME))
        delivery = Delivery(directory, map(parcel_of, self.found.loaded))
        await to_thread.run_sync(delivery.tree)
        return delivery

    @property
    def rules(self) -> RuleRedaction:
        """What the units have replaced in payloads and outputs of their kinds."""
        return RuleRedaction(rule for unit in self.found.units for rule in unit.redaction)

    def watch(self) -> StuckWatch | None:
        """Return what ends code of the units that holds up the daemon; None when there are none."""
        if not self.found.loaded:
            return None
        # A daemon without units does not pay for it.
        from chronicled.daemon.units.stuck_watch import StuckWatch

        owners = {package: each.unit.name for each in self.found.loaded for package in packages_of(each)}
        return StuckWatch(owners, self._settings.stuck_seconds, stop_stuck)

    def policies(self) -> Policies:
        """Return the units' policies, in the order of loading.

        Raises:
            UnitBroken: one cannot be imported, or is no function.
        """
        found: list[OwnedPolicy] = []
        for unit in self.found.units:
            if unit.policy:
                policy: Any = resolve(unit.policy, f"The policy of the unit {unit.name!r}")
                named: object = policy
                if not callable(named):
                    raise UnitBroken(f"The policy of the unit {unit.name!r}, {unit.policy}, is no function.")
                found.append(OwnedPolicy(unit.name, policy))
        return Policies(found, self._settings.policy_seconds)

    def open_runtimes(self, offered: tuple[str, ...], instance: str, delivery: Delivery | None) -> dict[str, Runtime]:
        """Return the units' runtimes that are offered, by name.

        Raises:
            ConfigurationError: something is offered that nobody has.
            UnitBroken: a runtime cannot be opened.
        """
        from chronicled.runtimes.offered import RuntimeContext

        factories: Mapping[str, str] = {
            name: reference for unit in self.found.units for name, reference in unit.runtimes.items()
        }
        opened: dict[str, Runtime] = {}
        for name in offered:
            if name in BUILTIN_RUNTIMES:
                continue
            if name not in factories:
                known = ", ".join(sorted({*BUILTIN_RUNTIMES, *factories}))
                raise ConfigurationError(
                    f"runtime.offered names {name!r}, which neither we nor a loaded unit have; there is {known}.",
                    key="runtime.offered",
                )
            directory = make_private(os.path.join(make_private(os.path.join(self._data, "runtimes")), name))
            opened[name] = _open(name, factories[name], RuntimeContext(name, directory, instance, delivery))
        return opened


def _open(name: str, reference: str, context: Any) -> Runtime:
    what = f"The runtime {name!r}"
    factory = resolve(reference, what)
    try:
        runtime: Runtime = factory(context)
        called = runtime.name
    except Exception as error:
        raise UnitBroken(f"{what} cannot be opened: {type(error).__name__}: {error}"[:600]) from error
    if called != name:
        raise UnitBroken(f"{what} calls itself {called!r}.")
    return runtime


def judge_delivery(loaded: Loaded) -> None:
    """Check that the unit can be brought into sandboxes of this interpreter.

    Raises:
        UnitBroken: it cannot; says what to do.
    """
    if loaded.unit.executors:
        from chronicled.runtimes.delivery.delivery import Delivery
        from chronicled.runtimes.delivery.target import own_target

        Delivery("", [parcel_of(loaded)]).contents(own_target())
