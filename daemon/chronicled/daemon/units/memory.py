"""What is remembered of kinds of units: so that a log can be served while a unit that it needs is not loaded.

Its events read as Opaque then, and its actions that are open end `error` instead of standing in their lanes for ever.
The file has no authority: without it such actions are only recorded, until the unit is loaded again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from chronicled.daemon.units.loading import Broken, Loaded, LoadedUnits
from chronicled.events.envelope import OBSERVATION, Category
from chronicled.events.errors import InvalidName
from chronicled.events.kind import KindSpec, TerminalPayload
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import Registry

__all__ = ["KindMemory", "StandIn"]

NAME: Final = "units.json"
FILE_BYTES_MAX: Final = 8 << 20

log: Any = structlog.get_logger("chronicled")


class _Known(msgspec.Struct, frozen=True):
    category: Category
    kind: str
    version: int
    runnable: bool
    terminal: bool


class _Remembered(msgspec.Struct, frozen=True):
    asked: str
    """As the configuration named the unit."""
    kinds: list[_Known]
    policy: bool = False


class StandIn(msgspec.Struct, frozen=True):
    """Base of the payloads of kinds whose unit is not loaded: nothing fits them."""


class _Ending(TerminalPayload, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """An end that is told of an action whose unit is not loaded; what its kind would add, its defaults will say."""

    outcome: Outcome
    effects: Effects


class KindMemory:
    """The file of all kinds of units that were ever loaded on this data directory.

    Args:
        directory: The data directory.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / NAME

    def keep(self, units: Iterable[Loaded]) -> None:
        """Remember the kinds of these units, beside those of units before. Blocks.

        Raises:
            OSError: it cannot be written.
        """
        known = self._read()
        after = known | {each.unit.name: _remembered(each) for each in units}
        if after == known:
            return
        work = self._path.with_suffix(".new")
        work.write_bytes(msgspec.json.encode(after))
        os.chmod(work, 0o600)
        os.rename(work, self._path)

    def guarding(self, found: LoadedUnits) -> list[Broken]:
        """Return the broken units that had a policy when they were loaded last: nobody would ask it now."""
        guards = {each.asked for each in self._read().values() if each.policy}
        return [each for each in found.broken if each.asked in guards]

    def stand_in(self, registry: Registry, found: LoadedUnits) -> None:
        """Register stand-ins for the kinds of units that are known and not loaded."""
        loaded = {unit.name for unit in found.units}
        reasons = {each.asked: each.reason for each in found.broken}
        for owner, remembered in self._read().items():
            if owner in loaded:
                continue
            reason = reasons.get(remembered.asked) or f"the unit {owner!r} is not loaded (units.load)"
            try:
                _register(registry, remembered, _refusing(reason))
            except (ValueError, InvalidName) as error:
                # Somebody has edited the file: then what it says counts for nothing.
                log.warning("unit_not_remembered", unit=owner, detail=str(error))

    def _read(self) -> dict[str, _Remembered]:
        try:
            data = self._path.read_bytes()[:FILE_BYTES_MAX]
            return msgspec.json.decode(data, type=dict[str, _Remembered])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}


def _remembered(loaded: Loaded) -> _Remembered:
    kinds = [_Known(spec.category, spec.kind, spec.version, spec.runnable, spec.terminal) for spec in loaded.unit.kinds]
    return _Remembered(loaded.asked, kinds, bool(loaded.unit.policy))


def _register(registry: Registry, remembered: _Remembered, refusing: type[msgspec.Struct]) -> None:
    for known in sorted(remembered.kinds, key=lambda each: (each.category, each.kind, each.version)):
        ends = known.category == OBSERVATION and known.terminal
        payload: type[msgspec.Struct] = _Ending if ends else refusing
        registry.register(KindSpec(known.category, known.kind, known.version, payload, known.runnable, known.terminal))


def _refusing(reason: str) -> type[msgspec.Struct]:
    def refuse(_: object) -> None:
        raise ValueError(reason)

    return msgspec.defstruct("NotLoaded", (), bases=(StandIn,), namespace={"__post_init__": refuse}, frozen=True)
