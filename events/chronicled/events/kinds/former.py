"""Former versions of payloads, as events of them stand in logs for ever. Nothing here may change.

Each is what its kind once was; `chronicled.migrations.builtin` has the upcasters from there to the current version.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from chronicled.events.kind import Payload, TerminalPayload
from chronicled.events.kinds.runnable import Path, Runnable, Seconds, VariableName
from chronicled.events.parts import Blobs

__all__ = ["EditObservation", "GenerationStarted", "Read", "ReadObservation", "Run", "SessionClosed", "SessionCreated"]


class Run(Runnable, frozen=True, kw_only=True):
    """Run a command line in the lane's persistent bash."""

    command: str
    environment: dict[VariableName, str] = {}
    """Variables for this command alone."""
    tty: bool = False
    """Give it a terminal for its output too."""
    quiet_seconds: Seconds | None = None
    """End it when it has printed nothing for so long."""
    working_directory: Path | None = None
    """Where to run it; None is where the lane's last command ended."""
    hidden: bool = False
    blobs: Blobs = {}
    """Which fields show only a head here, with the digest of the blob that holds the whole; never set by a client."""


class Read(Runnable, frozen=True, kw_only=True):
    """Read a file, whole or a range of its lines."""

    path: Path
    line_first: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """First line to return, from 1."""
    line_last: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Last line to return, inclusive."""


class ReadObservation(TerminalPayload, frozen=True, kw_only=True):
    """What a file holds."""

    path: str | None = None
    content: str = ""
    """What was read; where `blobs` names it, only its head, and the blob holds the whole in the same encoding."""
    encoding: Literal["utf-8", "base64"] = "utf-8"
    file_bytes: int = 0
    line_count: int | None = None
    truncated: bool = False
    """True when the file, or the lines asked for, hold more than was read: more than 1 MiB."""
    blobs: Blobs = {}


class EditObservation(TerminalPayload, frozen=True, kw_only=True):
    """What an edit did to the real file."""

    path: str | None = None
    content: str = ""
    diff: str | None = None
    existed: bool = False
    blobs: Blobs = {}


class SessionCreated(Payload, frozen=True, kw_only=True):
    """A session exists from here on."""

    runtime: str
    image: str | None = None
    labels: dict[str, str] = {}
    environment: dict[str, str] = {}
    isolated: bool = False
    """False where the runtime gives no isolation (design: told plainly)."""
    life_seconds: float | None = None


class SessionClosed(Payload, frozen=True, kw_only=True):
    """The session takes no more actions; what was queued ends `rejected`."""

    reason: Literal["client", "life_deadline"] = "client"


class GenerationStarted(Payload, frozen=True, kw_only=True):
    """An action server reported in: one generation begins."""

    sandbox: str
    generation: str
    runtime: str
    boot_id: str
    handle: dict[str, str | int]
    """What the runtime needs to find it again, e.g. pid and start time."""
    kinds: list[str]
    """Kinds of action that it can run."""
    start_seconds: float
