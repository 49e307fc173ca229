"""Runtimes: providers of sandboxes, and what the worker asks of one sandbox."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import anyio
import msgspec

from chronicled.events.errors import SandboxError
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.worker.link import Listen

__all__ = ["Handle", "MemoryMark", "Report", "Runtime", "RuntimeDefaults", "Sandbox", "SandboxDefaults", "SandboxSpec"]

Handle = dict[str, str | int]
"""What a runtime needs to find a sandbox again after the worker's death; goes into `generation_started`."""

Report = Callable[[ImageProgress], Awaitable[None]]
"""Takes the payload of a lifecycle event of the session."""


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
    request: SandboxRequest = SandboxRequest()
    """What the session asks of it; a runtime refuses by name what it cannot give."""
    position: int = 0
    """Position of its `sandbox_requested` event: a sandbox of a position above the log's head is not this log's."""
    image_pin: str | None = None
    """What `Sandbox.image_digest` of an earlier sandbox of the session was: the same image again, whatever its name
    means by now."""


class MemoryMark(NamedTuple):
    """A moment in the life of a sandbox."""

    nanoseconds: int
    """Unix time."""
    kills: int | None = None
    """How often the kernel had killed in it for want of memory by then, where its own count is known."""


class Sandbox(Protocol):
    """One running sandbox: the life and death of it. Frames go over the connection that its server dials."""

    @property
    def handle(self) -> Handle:
        """What `Runtime.attach` takes to find it again."""
        ...

    async def wait_ended(self) -> str:
        """Return why once the generation is over and **no process of it lives**.

        Two reasons are more than words: `oom_killed` (the kernel ended it for want of memory) and `killed` (somebody's
        SIGKILL ended the whole sandbox, and not this worker's) become the outcome of what ran in it.

        May be awaited by several. Cancellation: safe.
        """
        ...

    async def kill(self) -> int:
        """End the generation; return the number of processes killed, once none of them lives. Idempotent.

        Raises:
            SandboxUnreachable: death could not be proven in time.
        """
        ...

    @property
    def phases(self) -> dict[str, float]:
        """Seconds that the phases of its start took (`pull`, `create`, `start`, ...); empty for one found again."""
        ...

    @property
    def image_digest(self) -> str | None:
        """What the image's name stood for; None where there is no image."""
        ...

    async def greeted(self) -> None:
        """Learn that its server has proven itself: what it was told at its start is destroyed. Idempotent.

        To be awaited before anything is sent to it. Cancellation: safe.

        Raises:
            SandboxError: what it was told still stands where its commands could read it.
        """
        ...

    async def pause(self) -> None:
        """Stop every process of it where it is. Idempotent.

        Raises:
            SandboxError: the runtime cannot, or the sandbox has ended.
            SandboxUnreachable: it is not known whether it was done.
        """
        ...

    async def resume(self) -> None:
        """Let a paused sandbox go on. Idempotent. Raises as `pause`."""
        ...

    async def wait_moved(self) -> None:
        """Return once somebody may have paused it or let it go on; to be awaited again then. One caller at a time.

        What a stranger did comes to light within seconds, as long as the runtime's `run` runs. Cancellation: safe.
        """
        ...

    async def stands_still(self) -> bool:
        """Return whether it is paused, whoever has done that; False too where it has ended.

        Raises:
            SandboxUnreachable: that cannot be told now.
        """
        ...

    def memory_mark(self) -> MemoryMark:
        """Return what tells this moment from later ones for `ran_out_of_memory`. No wait."""
        ...

    async def ran_out_of_memory(self, since: MemoryMark) -> bool:
        """Return whether the kernel has killed in it for want of memory since then.

        Where only a notice can tell, which may come later than the death that it explains, it is waited for, for a
        second at most. Cancellation: safe.
        """
        ...


class SandboxDefaults:
    """What a sandbox answers whose runtime has no better answer."""

    @property
    def phases(self) -> dict[str, float]:
        """Not told."""
        return {}

    @property
    def image_digest(self) -> str | None:
        """There is no image."""
        return None

    async def greeted(self) -> None:
        """Nothing that it was told is left anywhere."""

    async def pause(self) -> None:
        """Refuse: it cannot be paused."""
        raise SandboxError("Sandboxes of this runtime cannot be paused.")

    async def resume(self) -> None:
        """Refuse: it cannot have been paused."""
        raise SandboxError("Sandboxes of this runtime cannot be paused.")

    async def wait_moved(self) -> None:
        """Never: it cannot be paused."""
        await anyio.sleep_forever()

    async def stands_still(self) -> bool:
        """No: it cannot be paused."""
        return False

    def memory_mark(self) -> MemoryMark:
        """This moment."""
        return MemoryMark(time.time_ns())

    async def ran_out_of_memory(self, since: MemoryMark) -> bool:
        """No: it has no memory of its own to run out of."""
        return False


class Runtime(Protocol):
    """A provider of sandboxes. Nothing that it starts may die with the worker."""

    @property
    def name(self) -> str:
        """What sessions call it, e.g. `process`."""
        ...

    def may_dial(self, sandbox: str, peer: Peer) -> bool:
        """Return whether a process of this host that dials for a sandbox can be of it. No I/O but of `/proc`.

        In doubt it can: the token decides. This is for who may have stolen one.
        """
        ...

    @property
    def listen(self) -> Listen | None:
        """How its sandboxes are reached; None where they dial the worker's socket."""
        ...

    @property
    def isolated(self) -> bool:
        """Whether code in a sandbox is kept from the daemon's files and sockets."""
        ...

    @property
    def pauses(self) -> bool:
        """Whether its sandboxes can be paused."""
        ...

    async def run(self) -> None:
        """Look after what all its sandboxes share, until cancelled; to run for as long as the runtime is used.

        Never raises: a runtime without it works too, and learns some things later.
        """
        ...

    def refuses(self, request: SandboxRequest, image: str | None = None) -> list[str]:
        """Return, each with its name, what of the request no sandbox of this runtime would be given. No I/O.

        What only the engine can tell is refused at the start.
        """
        ...

    async def start(self, spec: SandboxSpec, report: Report | None = None) -> Sandbox:
        """Start a sandbox whose action server will dial `spec.socket_directory`.

        Args:
            spec: What to start.
            report: Takes what is to be told meanwhile, e.g. how far the image is; never two at a time.

        Raises:
            SandboxStartFailed: it could not, or would not be what was asked for; nothing of it is left.

        Cancellation: what was started is killed before the cancellation goes on.
        """
        ...

    async def attach(self, handle: Handle, spec: SandboxSpec) -> Sandbox | None:
        """Find a sandbox again. None is proof: it is dead, and no process of it lives (leftovers were killed first).

        None too where it is another instance's, and this log a copy: it may well live, and is left alone; `epitaph`
        says `another_instance` then.

        Raises:
            SandboxUnreachable: neither alive nor dead can be proven now.
        """
        ...

    async def epitaph(self, handle: Handle, spec: SandboxSpec) -> str:
        """Return why a sandbox that `attach` found dead had ended; `found_dead` where nothing tells."""
        ...

    async def remove(self, sandbox: str) -> None:
        """Remove what there is of one sandbox: after its end, or when its start was never recorded.

        On return nothing of it lives or is left, and it may never have been there.

        Raises:
            SandboxUnreachable: its death cannot be proven now.
        """
        ...

    async def sweep(self, known: Collection[str], head: int = 0) -> Sequence[str]:
        """Remove sandboxes of this instance that are not in `known` (sandbox ids); return those removed.

        Nothing else is ever touched, nor what was requested at a position above `head`, the log's: another log made it.

        Raises:
            SandboxUnreachable: what there is, or the death of some of it, cannot be told now.
        """
        ...


class RuntimeDefaults:
    """What a runtime does that shares nothing among its sandboxes."""

    def may_dial(self, sandbox: str, peer: Peer) -> bool:
        """Any can: the token decides."""
        return True

    @property
    def listen(self) -> Listen | None:
        """They dial the worker's socket."""
        return None

    @property
    def pauses(self) -> bool:
        """No."""
        return False

    async def run(self) -> None:
        """Wait to be cancelled: there is nothing to look after."""
        await anyio.sleep_forever()

    def refuses(self, request: SandboxRequest, image: str | None = None) -> list[str]:
        """Nothing."""
        return []

    async def epitaph(self, handle: Handle, spec: SandboxSpec) -> str:
        """Nothing tells."""
        return "found_dead"
