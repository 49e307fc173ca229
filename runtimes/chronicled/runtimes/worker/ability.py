"""What a generation can execute: as its server has said, and as this worker knows its kinds."""

from __future__ import annotations

from typing import Final

from chronicled.events.envelope import ACTION
from chronicled.events.outcome import Outcome
from chronicled.events.registry import Registry
from chronicled.runtimes.action_server.frames import Hello
from chronicled.runtimes.worker.observation import Ending
from chronicled.runtimes.worker.refusal import never_ran

__all__ = ["clipped", "executable", "unable"]

ENTRIES_MAX: Final = 64
"""Of a table that a server sends."""
TEXT_CHARACTERS_MAX: Final = 600
KINDS_CHARACTERS_MAX: Final = 1000


def executable(hello: Hello, registry: Registry) -> list[str]:
    """Return the kinds that a server claims to execute which this worker knows as runnable."""
    found: list[str] = []
    for kind in hello.kinds:
        spec = registry.find_current(ACTION, kind)
        if spec is not None and spec.runnable:
            found.append(kind)
    return found


def unable(hello: Hello, registry: Registry, kind: str) -> Ending | None:
    """Return how an action of that kind ends since the generation cannot execute it; None if it can."""
    owner = kind.partition(".")[0]
    known = executable(hello, registry)
    if kind not in known:
        missing = hello.missing.get(owner)
        if missing is not None:
            message = f"The sandbox has no executor for {kind}, since {missing[:TEXT_CHARACTERS_MAX]}."
        else:
            listed = ", ".join(sorted(known)) or "none"
            message = f"The sandbox has no executor for {kind}; it has: {listed[:KINDS_CHARACTERS_MAX]}."
        return never_ran(Outcome.ERROR, "no_executor", message)
    spec = registry.current(ACTION, kind)
    version = hello.versions.get(kind, spec.version)
    if version == spec.version:
        return None
    release = hello.units.get(owner, owner)[:TEXT_CHARACTERS_MAX]
    message = (
        f"The executor of {kind} in this sandbox ({release}) takes version {version}, and this daemon sends version "
        f"{spec.version}: restart the session's sandbox, or make the unit's executor take version {spec.version}."
    )
    return never_ran(Outcome.ERROR, "version_mismatch", message)


def clipped(table: dict[str, str]) -> dict[str, str]:
    """Return the first entries of a table that a server sent, as an event may hold them."""
    return {name[:128]: text[:TEXT_CHARACTERS_MAX] for name, text in sorted(table.items())[:ENTRIES_MAX]}
