"""Runtimes: providers of sandboxes, and what the worker asks of one sandbox."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

__all__ = ["Handle", "Runtime", "Sandbox", "SandboxSpec"]

Handle = dict[str, str | int]
"""What a runtime needs to find a sandbox again after the worker's death; goes into `generation_started`."""


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker wants started: one sandbox for one session, one generation in it."""

    tenant: str
    session: str
    sandbox: str
    """Unique id of the sandbox, made by the worker; its directory and socket are named after it."""
    generation: str
    token: str
    """Secret by which the action server proves itself; must not appear in argv, environment or any listing."""
    socket_directory: str
    """Directory with the worker's socket `worker.sock`; existing, and the worker listens already."""
    working_directory: str
    """The session's own directory on the host (process runtime); existing or to be created."""
    image: str | None = None
    environment: dict[str, str] = {}
    """Variables of the session, on top of the runtime's clean environment."""


class Sandbox(Protocol):
    """One running sandbox: the life and death of it. Frames go over the connection that its server dials."""

    @property
    def handle(self) -> Handle:
        """What `Runtime.attach` takes to find it again."""
        ...

    async def wait_ended(self) -> str:
        """Return why (`exited`, `killed`, ...) once the generation is over and **no process of it lives**.

        May be awaited by several. Cancellation: safe.
        """
        ...

    async def kill(self) -> int:
        """End the generation; return the number of processes killed, once none of them lives. Idempotent.

        Raises:
            SandboxUnreachable: death could not be proven in time.
        """
        ...


class Runtime(Protocol):
    """A provider of sandboxes. Nothing that it starts may die with the worker."""

    @property
    def name(self) -> str:
        """What sessions call it, e.g. `process`."""
        ...

    @property
    def isolated(self) -> bool:
        """Whether code in a sandbox is kept from the daemon's files and sockets."""
        ...

    async def start(self, spec: SandboxSpec) -> Sandbox:
        """Start a sandbox whose action server will dial `spec.socket_directory`.

        Raises:
            SandboxStartFailed: it could not; nothing of it is left.

        Cancellation: what was started is killed before the cancellation goes on.
        """
        ...

    async def attach(self, handle: Handle, spec: SandboxSpec) -> Sandbox | None:
        """Find a sandbox again. None is proof: it is dead, and no process of it lives (leftovers were killed first).

        Raises:
            SandboxUnreachable: neither alive nor dead can be proven now.
        """
        ...

    async def remove(self, sandbox: str) -> None:
        """Remove one sandbox of which no handle is known: the worker died before its start was recorded.

        On return nothing of it lives, and it may never have been there.

        Raises:
            SandboxUnreachable: its death cannot be proven now.
        """
        ...

    async def sweep(self, known: Collection[str]) -> Sequence[str]:
        """Remove sandboxes of this instance that are not in `known` (sandbox ids); return those removed."""
        ...
