"""The labels of a sandbox's container: whose it is. Nothing without all of them is ever touched (invariant 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["CARRIER", "ERRAND", "INSTANCE", "SANDBOX", "Owner", "container_name", "labels_of", "owner_of"]

INSTANCE: Final = "chronicled.instance"
WORKER: Final = "chronicled.worker"
SANDBOX: Final = "chronicled.sandbox"
POSITION: Final = "chronicled.position"
GENERATION: Final = "chronicled.generation"
ERRAND: Final = "chronicled.errand"
"""On containers that are no sandboxes and never run."""
CARRIER: Final = "chronicled.carrier"
"""On volumes that hold a carrier; its digest."""
_ALL: Final = (INSTANCE, WORKER, SANDBOX, POSITION, GENERATION)


class Owner(NamedTuple):
    """Whose a container is, by its labels."""

    instance: str
    sandbox: str
    position: int


def labels_of(*, instance: str, worker: str, sandbox: str, generation: str, position: int) -> dict[str, str]:
    """Return the labels of a sandbox's container."""
    return {
        INSTANCE: instance,
        WORKER: worker,
        SANDBOX: sandbox,
        GENERATION: generation,
        POSITION: str(position),
    }


def owner_of(labels: Mapping[str, str]) -> Owner | None:
    """Return whose a container is, None where the labels are not all there or not as `labels_of` makes them."""
    if any(not labels.get(name) for name in _ALL):
        return None
    position = labels[POSITION]
    if not (position.isascii() and position.isdigit()) or str(int(position)) != position:
        return None
    return Owner(labels[INSTANCE], labels[SANDBOX], int(position))


def container_name(sandbox: str) -> str:
    """Return the name of a sandbox's container: no second one can be made of the same."""
    return f"chronicled-{sandbox}"
