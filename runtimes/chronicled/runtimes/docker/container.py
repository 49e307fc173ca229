"""A container as the engine describes it (`GET /containers/ID/json`): the part that is looked at, with its types.

What is missing or null counts as empty, so a control that an engine does not tell of is never taken for kept.
"""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Configuration", "Container", "HostConfiguration", "MountPoint", "Networking", "State"]


class Pascal(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base: names are written as the engine writes them."""


class State(Pascal, frozen=True, kw_only=True):
    """Whether it runs, and how it ended."""

    status: str = ""
    running: bool = False
    paused: bool = False
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    finished_at: str = ""


class HealthCheck(Pascal, frozen=True, kw_only=True):
    """A command by which the engine would see whether it is well."""

    test: list[str] | None = None


class Configuration(Pascal, frozen=True, kw_only=True):
    """What runs in it."""

    user: str = ""
    env: list[str] | None = None
    labels: dict[str, str] | None = None
    healthcheck: HealthCheck | None = None
    open_stdin: bool = False
    tty: bool = False


class LogDriver(Pascal, frozen=True, kw_only=True):
    """Where its output goes."""

    type: str = ""


class Restart(Pascal, frozen=True, kw_only=True):
    """Whether the engine starts it again."""

    name: str = ""


class Limit(Pascal, frozen=True, kw_only=True):
    """A limit of each process."""

    name: str = ""
    soft: int = 0
    hard: int = 0


class Device(Pascal, frozen=True, kw_only=True):
    """A device of the host."""

    path_on_host: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Pascal, frozen=True, kw_only=True):
    """Devices that a driver brings."""

    count: int = 0
    capabilities: list[list[str]] | None = None


class HostConfiguration(Pascal, frozen=True, kw_only=True):
    """What of the host it gets, and how it is kept from the rest."""

    privileged: bool = True
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    security_opt: list[str] | None = None
    userns_mode: str = ""
    group_add: list[str] | None = None
    runtime: str = ""
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = msgspec.field(name="UTSMode", default="")
    cgroupns_mode: str = ""
    cgroup_parent: str = ""
    readonly_rootfs: bool = False
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    binds: list[str] | None = None
    volumes_from: list[str] | None = None
    tmpfs: dict[str, str] | None = None
    devices: list[Device] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[DeviceRequest] | None = None
    sysctls: dict[str, str] | None = None
    memory: int = 0
    memory_swap: int = 0
    nano_cpus: int = 0
    pids_limit: int | None = None
    shm_size: int = 0
    ulimits: list[Limit] | None = None
    storage_opt: dict[str, str] | None = None
    oom_kill_disable: bool | None = None
    oom_score_adj: int = 0
    network_mode: str = ""
    port_bindings: dict[str, Any] | None = None
    publish_all_ports: bool = False
    links: list[str] | None = None
    dns: list[str] | None = None
    extra_hosts: list[str] | None = None
    init: bool | None = None
    log_config: LogDriver = LogDriver()
    restart_policy: Restart = Restart()
    auto_remove: bool = False


class MountPoint(Pascal, frozen=True, kw_only=True):
    """Something mounted into it."""

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    rw: bool = msgspec.field(name="RW", default=True)
    propagation: str = ""


class Networking(Pascal, frozen=True, kw_only=True):
    """The networks that it is in."""

    networks: dict[str, Any] | None = None
    ports: dict[str, Any] | None = None


class Container(Pascal, frozen=True, kw_only=True):
    """A container."""

    id: str
    image: str = ""
    state: State = State()
    config: Configuration = Configuration()
    host_config: HostConfiguration = HostConfiguration()
    mounts: list[MountPoint] | None = None
    network_settings: Networking = Networking()

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return self.config.labels or {}
