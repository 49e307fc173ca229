"""A runtime of one's own: sandboxes that are processes, and know that they are in a box."""

from __future__ import annotations

import os

import msgspec

from chronicled.runtimes.offered import RuntimeContext
from chronicled.runtimes.process import ProcessRuntime, ProcessSandbox
from chronicled.runtimes.runtime import Report, SandboxSpec

__all__ = ["BoxRuntime", "open_box"]


class BoxRuntime(ProcessRuntime):
    """The process runtime with a mark in the environment of its sandboxes.

    Args:
        context: What the daemon gives to every runtime.
    """

    def __init__(self, context: RuntimeContext) -> None:
        super().__init__(os.path.join(context.directory, "sandboxes"), delivery=context.delivery)
        self._name = context.name

    @property
    def name(self) -> str:
        """As sessions call it."""
        return self._name

    async def start(self, spec: SandboxSpec, report: Report | None = None) -> ProcessSandbox:
        """Start a sandbox; see `Runtime.start`."""
        marked = msgspec.structs.replace(spec, environment={**spec.environment, "ACME_BOX": spec.sandbox})
        return await super().start(marked, report)


def open_box(context: RuntimeContext) -> BoxRuntime:
    """Return the runtime; named in the unit."""
    return BoxRuntime(context)
