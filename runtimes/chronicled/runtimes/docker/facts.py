"""What an engine is, and what it can: read once, from its own description."""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["EngineFacts", "facts_of"]

_LIMITS: Final = {
    "memory_bytes": ("MemoryLimit",),
    "cpus": ("CpuCfsPeriod", "CpuCfsQuota"),
    "processes_max": ("PidsLimit",),
}
"""What the engine says when it can keep a limit."""
_QUOTA_DRIVERS: Final = frozenset({"btrfs", "zfs", "devicemapper", "windowsfilter"})


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What policy and proof need to know of an engine."""

    id: str
    """The same for as long as its data is: a container that another engine does not know may well live on this one."""
    version: str
    driver: str
    backing: str
    """File system below the storage driver."""
    runtimes: tuple[str, ...]
    podman: bool
    """It is Podman: its inspection tells some controls otherwise, and some not at all."""
    seccomp: bool
    rootless: bool
    remapped: bool
    """User ids in containers are others on the host."""
    swap_limit: bool
    unkept: tuple[str, ...]
    """Limits that it takes, repeats in its inspection, and does not keep: a rootless engine without control groups."""
    cpus: int
    memory_bytes: int
    root_directory: str
    architecture: str
    live_restore: bool

    @property
    def limits_disk(self) -> bool:
        """Whether the writable layer of a container can be limited, as far as it tells: only trying is proof."""
        return self.driver in _QUOTA_DRIVERS or (self.driver == "overlay2" and self.backing == "xfs")

    @property
    def storage(self) -> str:
        """The storage driver with what is below it."""
        return f"{self.driver} on {self.backing}" if self.backing else self.driver


def facts_of(info: dict[str, Any], version: dict[str, Any]) -> EngineFacts:
    """Return the facts of `GET /info` and `GET /version`."""
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    names = {part.partition("=")[2] for option in options for part in option.split(",") if part.startswith("name=")}
    status = {str(pair[0]): str(pair[1]) for pair in info.get("DriverStatus") or () if len(pair) == 2}
    components = {str(component.get("Name")) for component in version.get("Components") or ()}
    root = str(info.get("DockerRootDir") or "")
    identity = str(info.get("ID") or "")
    podman = "Podman Engine" in components
    if not identity or podman:
        # Podman makes up another id for each answer.
        identity = f"{info.get('Name')}:{root}"
    return EngineFacts(
        id=identity,
        version=str(version.get("Version") or ""),
        driver=str(info.get("Driver") or ""),
        backing=status.get("Backing Filesystem", ""),
        runtimes=tuple(sorted(info.get("Runtimes") or ())),
        seccomp=any("name=seccomp" in option and "profile=unconfined" not in option for option in options),
        rootless="rootless" in names,
        remapped="userns" in names or "rootless" in names,
        swap_limit=bool(info.get("SwapLimit")),
        unkept=tuple(name for name, words in _LIMITS.items() if not all(info.get(word) for word in words)),
        cpus=int(info.get("NCPU") or 0),
        memory_bytes=int(info.get("MemTotal") or 0),
        root_directory=root,
        architecture=str(info.get("Architecture") or ""),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        podman=podman,
    )
