"""What a worker is told by the composition root: its bounds, its deadlines and its directories."""

from __future__ import annotations

import os
from typing import Annotated

import msgspec

from chronicled.events.limits import DOWNLOAD_BYTES_MAX, OUTPUT_BYTES_MAX

__all__ = ["Directories", "WarmSettings", "WorkerSettings"]


class WarmSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sandboxes that are kept waiting for sessions that name this runtime and image, and ask for nothing else."""

    runtime: str = "docker"
    image: str | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and deadlines of a worker."""

    name: str
    """Who it is in the log; its events have the actor `worker:NAME`."""
    boot_id: str
    """The host's boot id: a dispatch journal of another boot proves nothing."""
    claims_max: int = 64
    """Most claims in flight."""
    starts_max: int = 4
    """Most sandboxes that start side by side."""
    start_seconds: float = 30.0
    """Start deadline: from asking the runtime to the action server's handshake."""
    start_attempts: int = 2
    handshake_seconds: float = 5.0
    """How long a connection may take to say who it is, and to answer what it runs."""
    command_seconds: float | None = 3600.0
    """Command deadline of an action that names none."""
    queue_seconds: float | None = None
    """Queue deadline of an action that names none."""
    grace_seconds: float = 10.0
    """How long after a command deadline or a cancel the action server may take to end the action, before its generation
    is ended by the worker."""
    unreachable_seconds: float = 60.0
    """How long a live action server may stay away while an action waits for it, before its generation is ended."""
    proof_seconds: float = 600.0
    """How long the death of an unreachable generation is sought, before its actions end `unknown`."""
    sweep_seconds: float = 60.0
    """How often what the runtimes hold is compared with what the log knows."""
    warm: tuple[WarmSettings, ...] = ()
    """What is started ahead of need."""
    drain_seconds: float = 10.0
    """How long a drain waits for results that are being published."""
    unclaimed_seconds: float = 900.0
    """How long an action server lives on without a worker."""
    output_bytes_max: int = OUTPUT_BYTES_MAX
    """Most output kept of one action."""
    download_bytes_max: int = DOWNLOAD_BYTES_MAX
    """Most bytes kept of one download."""


class Directories(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker keeps what is its own. All exist and are 0700."""

    spool: str
    """`GENERATION/results` and `GENERATION/ACTION.out`: clear text, guarded as a secret store."""
    output: str
    """Redacted output that has outgrown memory, on the file system of the blobs."""
    journal: str
    """The dispatch journal."""
    sandboxes: str
    """`SANDBOX/token` (0600), and what the runtime keeps of a sandbox (`SANDBOX/home`)."""
    sockets: str
    """`SANDBOX/worker.sock`: each sandbox's action server dials its own."""

    def generation_spool(self, generation: str) -> str:
        """Return the directory of the generation's spools."""
        return os.path.join(self.spool, generation)

    def results(self, generation: str) -> str:
        """Return the path of the generation's result spool."""
        return os.path.join(self.spool, generation, "results")

    def action_spool(self, generation: str, action: str) -> str:
        """Return the path of the spool that takes the action's raw output."""
        return os.path.join(self.spool, generation, f"{action}.out")

    def output_file(self, generation: str, action: str) -> str:
        """Return the path of the action's redacted output while it is being made."""
        return os.path.join(self.output, f"{generation}.{action}")

    def sandbox(self, sandbox: str) -> str:
        """Return the directory of what is kept of a sandbox."""
        return os.path.join(self.sandboxes, sandbox)

    def token(self, sandbox: str) -> str:
        """Return the path of the secret by which the sandbox's action server proves itself."""
        return os.path.join(self.sandboxes, sandbox, "token")

    def home(self, sandbox: str) -> str:
        """Return the working directory of a sandbox whose files are the host's."""
        return os.path.join(self.sandboxes, sandbox, "home")

    def socket_directory(self, sandbox: str) -> str:
        """Return the directory of the socket that the sandbox's action server dials."""
        return os.path.join(self.sockets, sandbox)
