"""Writing down what is to stay as it is: lines of the lock file and golden events that are not there yet."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import find, settings

from chronicled.daemon.units.conformance.checks import GOLDEN, LOCK
from chronicled.daemon.units.conformance.payloads import payloads
from chronicled.events.kind import KindSpec
from chronicled.migrations.lock import lock_of
from chronicled.migrations.unit import Unit

__all__ = ["keep"]


def keep(unit: Unit) -> list[str]:
    """Write what is missing in the unit's package, and return the files that were written.

    What is there is never changed: a line of the lock and a golden event stand for what was released.

    Raises:
        ValueError: the unit does not name its package.
        OSError: its folder cannot be written, as where it is installed and not editable.
    """
    if not unit.package:
        raise ValueError("the unit does not say in `package` where its schema.lock and its golden files are")
    folder = Path(str(files(unit.package)))
    written: list[str] = []
    lock = folder / LOCK
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    known = {line.rsplit(" ", 1)[0] for line in lines}
    added = [f"{name} {digest}" for name, digest in lock_of(unit.kinds).items() if name not in known]
    if added:
        lock.write_text("".join(f"{line}\n" for line in sorted([*lines, *added])), encoding="utf-8")
        written.append(str(lock))
    for spec in unit.kinds:
        path = folder / GOLDEN / f"{spec.category}.{spec.kind}.{spec.version}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_least(spec) + b"\n")
            written.append(str(path))
    return written


def _least(spec: KindSpec) -> bytes:
    """Return a payload with all fields at their defaults, and what has none as small as it can be."""

    def fits(_: dict[str, Any]) -> bool:
        return True

    least: dict[str, Any] = find(payloads(spec.payload, required=True), fits, settings=settings(database=None))
    return msgspec.json.encode(msgspec.convert(least, spec.payload, str_keys=True))
