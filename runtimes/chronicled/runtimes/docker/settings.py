"""Settings of the docker runtime: where the engine is, and what its sandboxes get and may be given."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

__all__ = ["CAPABILITIES_OF_ROOT", "FILES_MIN", "DockerSettings"]

CAPABILITIES_OF_ROOT: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
"""What a root of a sandbox keeps, where root is allowed at all; any other user has no capability.

All of them reach only files and processes of the container itself, and package managers do not work without them:
CHOWN, FOWNER and FSETID to unpack files with owner and mode, DAC_OVERRIDE to write where they may not, SETUID and
SETGID to become the user that downloads (apt's `_apt`), KILL to end it again. Left out of the engine's own list: MKNOD
(devices), NET_RAW (forged packets), NET_BIND_SERVICE, SYS_CHROOT, SETPCAP, SETFCAP, AUDIT_WRITE.
"""

FILES_MIN: Final = 512
"""Least number of open files: the action server and the shells keep some of theirs at numbers that no command uses."""
Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
Capability = Literal[
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE", "SYS_CHROOT"
]


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator decides; a session's request is taken within it or refused by name."""

    host: str = ""
    """`unix://PATH` or `tcp://HOST:PORT`; empty is DOCKER_HOST, or the engine's usual socket."""
    tls_directory: str = ""
    """Folder of `ca.pem`, `cert.pem` and `key.pem` for `tcp://`; empty is DOCKER_CERT_PATH with DOCKER_TLS_VERIFY."""
    image: str = ""
    """Image of sessions that name none; empty refuses them."""
    user: Annotated[str, msgspec.Meta(pattern=r"^(\d{1,10}(:\d{1,10})?)?$")] = ""
    """Numeric `uid:gid` of the commands; empty is this process's own, and 1000:1000 where that is root."""
    root_allowed: bool = False
    """Whether a session may ask for user 0."""
    capabilities: tuple[Capability, ...] = CAPABILITIES_OF_ROOT
    """What a root of a sandbox keeps; everything else is dropped, and other users have none."""
    seccomp_profile: str = ""
    """File of a seccomp profile; empty is the engine's default. There is no way to have none."""
    read_only: bool = False
    """Whether the image's own files are read-only where a session does not say."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=1 << 24)] = 2 << 30
    """Memory of a sandbox, with its tmpfs; there is no swap beyond it."""
    memory_bytes_max: Bytes = 0
    """Most that a session may ask for; 0 is whatever the machine has."""
    cpus: Annotated[float, msgspec.Meta(gt=0, le=1024)] = 2.0
    cpus_max: Annotated[float, msgspec.Meta(ge=0, le=1024)] = 0.0
    """Most that a session may ask for; 0 is whatever the machine has."""
    processes_max: Annotated[int, msgspec.Meta(ge=16, le=1 << 22)] = 1024
    """Processes and threads of a sandbox, where a session does not say."""
    processes_max_max: Annotated[int, msgspec.Meta(ge=16, le=1 << 22)] = 16384
    """Most that a session may ask for."""
    disk_bytes: Bytes = 0
    """Limit of the image's writable layer; 0 is none. Refused where the engine's storage driver cannot.

    What is mounted is no part of it: the session's own files, unless `workspace` is `layer`, and volumes.
    """
    tmp_bytes: Bytes = 1 << 30
    """Size of a tmpfs at /tmp, which images need not have; 0 leaves the image's own."""
    tmpfs_bytes_max: Bytes = 4 << 30
    """Most that a session may ask for, for all of its tmpfs together."""
    shm_bytes: Bytes = 64 << 20
    files_max: Annotated[int, msgspec.Meta(ge=FILES_MIN, le=1 << 30)] = 65536
    """Open files of a process, as far as this machine's hard limit goes."""
    ulimits: dict[str, Annotated[int, msgspec.Meta(ge=-1)]] = {}
    """Further limits of every process; a session can lower them, and not raise them."""
    volumes_allowed: tuple[str, ...] = ()
    """Host paths that sessions may mount, with what is below them, and names of volumes."""
    devices_allowed: tuple[str, ...] = ()
    """Devices of the host that sessions may ask for."""
    gpus_allowed: bool = False
    isolation: str | None = None
    """Name of the isolation where a session does not say; None is the engine's own."""
    isolations: dict[str, str] = msgspec.field(default_factory=lambda: {"gvisor": "runsc"})
    """The engine's runtime by the name that sessions use."""
    isolations_with_devices: tuple[str, ...] = ()
    """Those of them that pass on devices and GPUs. gVisor takes them and drops them, so that they are refused there."""
    network: str = "none"
    """Network policy where a session does not say."""
    transport: Literal["socket", "stdio"] = "socket"
    """How frames travel: over a Unix socket in a shared directory, or over the engine's API where there is none."""
    carrier: Literal["bind", "volume"] = "bind"
    """How the action server comes into a sandbox: from a directory of the host, or a volume filled through the API."""
    workspace: Literal["bind", "tmpfs", "layer"] = "bind"
    """Where a session's own files are: on this host, in the sandbox's memory, or among the image's own, in its layer.

    The last two are for engines that share no directory with this host; only in the layer `disk_bytes` limits them too.
    """
    workspace_bytes: Bytes = 1 << 30
    """Size of a workspace in memory."""
    swap_unlimited_allowed: bool = False
    """Accept an engine whose kernel cannot limit swap."""
    cgroup_shown_allowed: bool = False
    """Accept a Podman that gives no cgroup namespace, as on cgroup v1: sandboxes see the name of their own cgroup."""
    limits_unkept_allowed: bool = False
    """Accept that no limit of memory, processors and processes holds: under an isolation that leaves sandboxes out of
    their cgroup (runsc with `--ignore-cgroups`), or on an engine without control groups (rootless on cgroup v1)."""
