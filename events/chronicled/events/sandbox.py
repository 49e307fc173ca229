"""What a session may ask of its sandboxes: one struct, in the log, in requests and at the runtimes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["SandboxRequest", "Volume"]

AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"^/[^\x00]*$", max_length=4096)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
UserId = Annotated[str, msgspec.Meta(pattern=r"^\d{1,10}(:\d{1,10})?$")]


class Volume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something of the host's, or a named volume, that a sandbox sees."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    """A path of the engine's host that the configuration allows, or the name of a volume."""
    target: AbsolutePath
    read_only: bool = True


class SandboxRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that one may ask; None takes the configuration's value. A runtime refuses by name what it cannot give."""

    network: Name | None = None
    """Name of a network policy: `none` (the default), `open`, or one of the configuration."""
    isolation: Name | None = None
    """Name of an isolation of the configuration, e.g. `gvisor`; None is the engine's own."""
    pull: Literal["missing", "always", "never"] | None = None
    """When the image is fetched from its registry."""
    user: UserId | None = None
    """Numeric `uid` or `uid:gid` of the commands."""
    working_directory: AbsolutePath | None = None
    """Where shells begin."""
    read_only: bool | None = None
    """Whether the image's own files are read-only."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 24)] | None = None
    cpus: Annotated[float, msgspec.Meta(gt=0, le=1024)] | None = None
    processes_max: Annotated[int, msgspec.Meta(ge=16, le=1 << 22)] | None = None
    disk_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] | None = None
    """Limit of the writable layer, where the engine's storage driver can."""
    ulimits: dict[Name, Annotated[int, msgspec.Meta(ge=-1)]] = {}
    volumes: list[Volume] = []
    tmpfs: dict[AbsolutePath, Annotated[int, msgspec.Meta(ge=4096)]] = {}
    """Size in bytes by path."""
    devices: list[AbsolutePath] = []
    gpus: Annotated[int, msgspec.Meta(ge=-1)] | None = None
    """How many; -1 for all."""
