"""Runtimes of third parties: how the worker gets one from the unit that declares it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from chronicled.runtimes.runtime import Runtime

if TYPE_CHECKING:
    from chronicled.runtimes.delivery.delivery import Delivery

__all__ = ["RuntimeContext", "RuntimeFactory"]


class RuntimeContext(NamedTuple):
    """What a runtime's factory is given. The runtime is opened once, in the worker's process."""

    name: str
    """As the unit declares it and sessions call it, e.g. `acme.box`; its `name` must be this."""
    directory: str
    """A folder of its own (0700), for what it keeps between starts of the daemon."""
    instance: str
    """Id of this data directory on this machine: what it starts must be told from another instance's."""
    delivery: Delivery | None = None
    """The units that are to be brought into its sandboxes; None where none has executors."""


RuntimeFactory = Callable[[RuntimeContext], Runtime]
"""Named in `Unit.runtimes` as `package.module:function`. It must not block, nor start anything yet."""
