"""The plan of a sandbox: request and configuration brought together, every control with its value."""

from __future__ import annotations

import resource
from collections.abc import Collection, Mapping
from typing import Final, Literal

import msgspec

from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.docker import paths
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.images_reference import is_reference
from chronicled.runtimes.docker.network_policy import NetworkGrant
from chronicled.runtimes.docker.settings import FILES_MIN, DockerSettings

__all__ = [
    "LIMITS_LEAST",
    "RUN_DIRECTORY",
    "WORKSPACE",
    "Limits",
    "Mount",
    "Plan",
    "limits_here",
    "network_of",
    "refusals",
    "ulimits_of",
    "user_of",
]

RUN_DIRECTORY: Final = f"{paths.CARRIER}/run"
"""Where a sandbox sees its socket directory."""
WORKSPACE: Final = "/workspace"
"""Where a sandbox sees the session's own files."""
_PROCESSES_LIMIT: Final = 1 << 20
_THREADS_PATH: Final = "/proc/sys/kernel/pid_max"
_ULIMITS: Final = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    # One is another name of NOFILE, which engines do not know.
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
LIMITS_LEAST: Final = {
    "nofile": FILES_MIN,
    "nproc": 256,
    "fsize": 64 << 20,
    "as": 2 << 30,
    "data": 128 << 20,
    "stack": 64 << 10,
    "cpu": 3600,
}
"""Below these the action server, which they hold for as well, does not come up, cannot do its work, or ends early."""

_KEPT: Final = frozenset({"core", "nofile"})
"""Limits that a session can lower and not raise, as all of `docker.ulimits`: dumps would be the host's to deal with."""


class Limits(msgspec.Struct, frozen=True):
    """Hard limits of this machine by the engine's names; -1 is none. Above them an engine of this machine may fail."""

    hard: dict[str, int]
    threads: int = _PROCESSES_LIMIT
    """As many as the kernel has numbers for: no user ever has more."""

    def allows(self, name: str, value: int) -> bool:
        """Return whether a limit of this value is not above the machine's."""
        most = self.hard.get(name, -1)
        return most == -1 or 0 <= value <= most


def limits_here() -> Limits:
    """Return the hard limits of this process, which the engine's are taken to be."""
    hard = {name: resource.getrlimit(number)[1] for name, number in _ULIMITS.items()}
    try:
        with open(_THREADS_PATH, encoding="ascii") as file:
            return Limits(hard, int(file.read()))
    except (OSError, ValueError):
        return Limits(hard)


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """Something mounted into a sandbox."""

    source: str
    """Resolved host path, or name of a volume."""
    target: str
    read_only: bool
    type: Literal["bind", "volume"] = "bind"
    identity: tuple[int, int] | None = None
    """Device and inode of a volume that a session asked for: what must be found in the container too."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One sandbox as it shall be. The policy writes it down for the engine, the inspection compares what came of it."""

    sandbox: str
    generation: str
    labels: dict[str, str]
    image: ResolvedImage
    user: str
    """`uid:gid`."""
    capabilities: tuple[str, ...]
    read_only: bool
    memory_bytes: int
    cpus: float
    processes_max: int
    shm_bytes: int
    disk_bytes: int
    """0 is no limit."""
    ulimits: dict[str, int]
    mounts: tuple[Mount, ...]
    tmpfs: dict[str, int]
    devices: tuple[str, ...]
    gpus: int
    runtime: str | None
    """The engine's runtime; None is its default."""
    grant: NetworkGrant
    seccomp_profile: str
    """Content of a profile; empty is the engine's default."""
    blanked: tuple[str, ...]
    """Variables of the image that the carried interpreter must not see."""
    own: Mapping[str, str]
    """Variables that it has instead of whatever the image says."""
    stdio: bool
    """Frames travel over its standard input and output."""

    @property
    def nano_cpus(self) -> int:
        """The limit of processor time as engines count it."""
        return round(self.cpus * 10**9)


def user_of(request: SandboxRequest, settings: DockerSettings, uid: int, gid: int) -> str:
    """Return `uid:gid` of the commands; `uid` and `gid` are this process's own."""
    text = request.user or settings.user
    if not text:
        text = "1000:1000" if uid == 0 else f"{uid}:{gid}"
    user, _, group = text.partition(":")
    return f"{int(user)}:{int(group or user)}"


def network_of(request: SandboxRequest, settings: DockerSettings) -> str:
    """Return the name of the network policy."""
    return request.network or settings.network


def ulimits_of(request: SandboxRequest, settings: DockerSettings, limits: Limits) -> dict[str, int]:
    """Return every limit of a process; soft and hard are the same, so that nothing raises them."""
    files, processes = limits.hard.get("nofile", -1), limits.hard.get("nproc", -1)
    defaults = {
        # A core dump would go to whatever the host has set up for its own.
        "core": 0,
        "nofile": settings.files_max if files < 0 else min(settings.files_max, files),
        # All sandboxes with this user share the kernel's count: what bounds one of them is its own pids limit. Not more
        # than there can be: Podman takes its own hard limit down to that, and could not give more without a capability.
        "nproc": min(limits.threads, _PROCESSES_LIMIT, *([] if processes < 0 else [processes])),
    }
    return defaults | settings.ulimits | request.ulimits


def _unfit_ulimits(request: SandboxRequest, settings: DockerSettings, limits: Limits) -> list[str]:
    """Return why limits are refused: unknown, above the machine's or the operator's, or too low for our own part."""
    reasons: list[str] = []
    highest = ulimits_of(SandboxRequest(), settings, limits)
    for name, value in ulimits_of(request, settings, limits).items():
        most, least = (
            highest.get(name, -1) if name in _KEPT | settings.ulimits.keys() else -1,
            LIMITS_LEAST.get(name, 0),
        )
        if name not in _ULIMITS:
            reasons.append(f"ulimits: there is no {name!r}")
        elif not limits.allows(name, value):
            reasons.append(f"ulimits: {name} is above this machine's hard limit of {limits.hard[name]}")
        elif most >= 0 and not 0 <= value <= most:
            reasons.append(f"ulimits: {name} is above the {most} of the configuration")
        elif 0 <= value < least:
            reasons.append(f"ulimits: {name} is too low for the action server, which needs {least}")
    return reasons


def refusals(
    request: SandboxRequest,
    image: str | None,
    settings: DockerSettings,
    limits: Limits,
    networks: Collection[str],
) -> list[str]:
    """Return, each with its name, what of the request is not given here. What only engine or disk know comes later."""
    reasons: list[str] = []
    if not (image or settings.image):
        reasons.append("image: none is named, and the configuration has no default")
    elif image and not is_reference(image):
        reasons.append(f"image: {image[:200]!r} is no name of an image")
    network = network_of(request, settings)
    if network not in networks:
        reasons.append(f"network: there is no policy {network!r}, only {', '.join(networks)}")
    elif network not in {"none", "open"} and settings.transport == "stdio":
        # Its proxy is reached through the directory that a sandbox shares with this host.
        reasons.append(f"network: {network!r} is a list, and needs a shared directory, not docker.transport = 'stdio'")
    isolation = request.isolation or settings.isolation
    if isolation is not None and isolation not in settings.isolations:
        known = ", ".join(sorted(settings.isolations)) or "none"
        reasons.append(f"isolation: there is no {isolation!r}, only {known}")
    if 0 in {int(part) for part in user_of(request, settings, 0, 0).split(":")} and not settings.root_allowed:
        reasons.append("user: root is not allowed (docker.root_allowed)")
    if settings.workspace == "layer" and (settings.read_only if request.read_only is None else request.read_only):
        reasons.append("read_only: the session's own files are among the image's (docker.workspace = 'layer')")
    reasons += _excesses(request, settings)
    reasons += _unfit_ulimits(request, settings, limits)
    reasons += [f"devices: {device} is not allowed" for device in request.devices if not _device(device, settings)]
    if request.gpus and not settings.gpus_allowed:
        reasons.append("gpus: they are not allowed (docker.gpus_allowed)")
    if isolation is not None and isolation not in settings.isolations_with_devices:
        asked = [name for name, value in (("devices", request.devices), ("gpus", request.gpus)) if value]
        reasons += [f"{name}: {isolation!r} passes none on (docker.isolations_with_devices)" for name in asked]
    reasons += paths.unlisted(request.volumes, settings.volumes_allowed)
    reasons += paths.misplaced([volume.target for volume in request.volumes], list(request.tmpfs))
    return reasons


def _excesses(request: SandboxRequest, settings: DockerSettings) -> list[str]:
    asked = (
        ("memory_bytes", request.memory_bytes or 0, settings.memory_bytes_max),
        ("cpus", request.cpus or 0, settings.cpus_max),
        ("processes_max", request.processes_max or 0, settings.processes_max_max),
        ("tmpfs", sum(request.tmpfs.values()), settings.tmpfs_bytes_max),
    )
    return [f"{name}: {value} is more than {most}" for name, value, most in asked if most and value > most]


def _device(device: str, settings: DockerSettings) -> bool:
    return paths.normal(device) == device and device in settings.devices_allowed
