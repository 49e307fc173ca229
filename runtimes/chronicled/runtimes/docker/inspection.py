"""The inspection: what the engine made of a plan, control by control.

It is told the plan, and nothing of how the policy wrote it down: what the policy forgets is missed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from chronicled.runtimes.docker.container import Configuration, Container, HostConfiguration, MountPoint
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.plan import Plan

__all__ = ["MASKED", "READ_ONLY", "differences"]

MASKED: Final = frozenset({"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"})
READ_ONLY: Final = frozenset({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"})
_NO_NEW_PRIVILEGES: Final = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")

Check = tuple[str, object, object]
"""Name of a control, what it shall be, what it is."""


def differences(plan: Plan, found: Container, facts: EngineFacts) -> list[str]:
    """Return, each with its name, what of a running container is not as planned; nothing when it is.

    Args:
        plan: What it shall be.
        found: The engine's inspection of it.
        facts: What the engine is.
    """
    host = found.host_config
    checks = (
        *_identity(plan, found, found.config),
        *_privileges(plan, host, facts),
        *_views(plan, host),
        *_devices(plan, host),
        *_resources(plan, host, facts),
        *_networks(plan, found, host),
        *_life(host, found.config),
    )
    reasons = [f"{name}: {got!r} instead of {wanted!r}" for name, wanted, got in checks if wanted != got]
    return reasons + _mounts(plan, found.mounts or [])


def _identity(plan: Plan, found: Container, configuration: Configuration) -> Iterator[Check]:
    yield "image", plan.image.id, found.image
    yield "user", plan.user, configuration.user
    yield "labels", plan.labels, {name: found.labels.get(name) for name in plan.labels}
    variables = {name: value for name, _, value in (entry.partition("=") for entry in configuration.env or ())}
    yield "environment", [], [name for name in plan.blanked if variables.get(name)]
    yield "environment of our own", dict(plan.own), {name: variables.get(name) for name in plan.own}
    check = configuration.healthcheck
    yield "health check", ["NONE"], None if check is None else check.test
    yield "standard input", plan.stdio, configuration.open_stdin


def _privileges(plan: Plan, host: HostConfiguration, facts: EngineFacts) -> Iterator[Check]:
    options = host.security_opt or []
    yield "privileged", False, host.privileged
    yield "dropped capabilities", {"ALL"}, _capabilities(host.cap_drop)
    yield "added capabilities", set(plan.capabilities), _capabilities(host.cap_add)
    yield "no-new-privileges", True, any(option in _NO_NEW_PRIVILEGES for option in options)
    yield "seccomp of the engine", True, facts.seccomp
    profiles = [option.partition("=")[2] for option in options if option.startswith("seccomp=")]
    yield "seccomp", [plan.seccomp_profile] if plan.seccomp_profile else [], profiles
    rest = [option for option in options if option not in _NO_NEW_PRIVILEGES and not option.startswith("seccomp=")]
    yield "security options", [], rest
    yield "user namespace", "", host.userns_mode
    yield "groups", [], host.group_add or []
    if plan.runtime is not None:
        yield "isolation", plan.runtime, host.runtime


def _capabilities(names: Iterable[str] | None) -> set[str]:
    return {name.upper().removeprefix("CAP_") for name in names or ()}


def _views(plan: Plan, host: HostConfiguration) -> Iterator[Check]:
    yield "process namespace", "", host.pid_mode
    yield "ipc namespace", "private", host.ipc_mode
    yield "host name namespace", "", host.uts_mode
    yield "cgroup namespace", "private", host.cgroupns_mode
    yield "read_only", plan.read_only, host.readonly_rootfs
    yield "masked paths", set[str](), MASKED - set(host.masked_paths or ())
    yield "read-only paths", set[str](), READ_ONLY - set(host.readonly_paths or ())
    yield "volumes of others", [], host.volumes_from or []
    yield "binds", [], host.binds or []
    wanted = {path: ({"nosuid", "nodev"}, size) for path, size in plan.tmpfs.items()}
    yield "tmpfs", wanted, {path: _tmpfs(options) for path, options in (host.tmpfs or {}).items()}
    yield "kernel settings", {}, host.sysctls or {}


def _tmpfs(options: str) -> tuple[set[str], int]:
    words = options.split(",")
    sizes = [word.removeprefix("size=") for word in words if word.startswith("size=")]
    return {"nosuid", "nodev"} & set(words), int(sizes[0]) if sizes and sizes[0].isdigit() else -1


def _devices(plan: Plan, host: HostConfiguration) -> Iterator[Check]:
    devices = [(each.path_on_host, each.cgroup_permissions) for each in host.devices or ()]
    yield "devices", [(device, "rw") for device in plan.devices], devices
    yield "device rules", [], host.device_cgroup_rules or []
    requests = [(each.count, each.capabilities) for each in host.device_requests or ()]
    yield "gpus", [(plan.gpus, [["gpu"]])] if plan.gpus else [], requests


def _resources(plan: Plan, host: HostConfiguration, facts: EngineFacts) -> Iterator[Check]:
    yield "memory_bytes", plan.memory_bytes, host.memory
    if facts.swap_limit:
        yield "swap", plan.memory_bytes, host.memory_swap
    yield "cpus", plan.nano_cpus, host.nano_cpus
    yield "processes_max", plan.processes_max, host.pids_limit
    yield "shared memory", plan.shm_bytes, host.shm_size
    limits = {each.name: (each.soft, each.hard) for each in host.ulimits or ()}
    yield "ulimits", {name: (value, value) for name, value in plan.ulimits.items()}, limits
    disk = (host.storage_opt or {}).get("size")
    yield "disk_bytes", str(plan.disk_bytes) if plan.disk_bytes else None, disk
    yield "out-of-memory killer", False, bool(host.oom_kill_disable)
    yield "out-of-memory score", True, host.oom_score_adj > 0
    yield "parent cgroup", "", host.cgroup_parent


def _networks(plan: Plan, found: Container, host: HostConfiguration) -> Iterator[Check]:
    networks, ports = found.network_settings.networks or {}, found.network_settings.ports or {}
    yield "network", plan.grant.mode, host.network_mode
    yield "networks", set(plan.grant.networks), set(networks)
    published = {port: where for port, where in ports.items() if where}
    yield "published ports", {}, published | (host.port_bindings or {})
    yield "published ports, all", False, host.publish_all_ports
    yield "links", [], host.links or []
    yield "name servers", list(plan.grant.dns), host.dns or []
    hosts = sorted(f"{name}:{address}" for name, address in plan.grant.hosts.items())
    yield "hosts", hosts, sorted(host.extra_hosts or ())


def _life(host: HostConfiguration, configuration: Configuration) -> Iterator[Check]:
    yield "init", True, host.init
    yield "log driver", "none", host.log_config.type
    yield "restart policy", True, host.restart_policy.name in {"no", ""}
    yield "removal by the engine", False, host.auto_remove
    yield "terminal", False, configuration.tty


def _mounts(plan: Plan, found: Iterable[MountPoint]) -> list[str]:
    wanted = {mount.target: (mount.type, mount.source, not mount.read_only) for mount in plan.mounts}
    reasons: list[str] = []
    for each in found:
        got = (each.type, each.name if each.type == "volume" else each.source, each.rw)
        expected = wanted.pop(each.destination, None)
        if expected is None:
            # What the image asks for is a fresh volume of its own, which goes when the container goes.
            own = each.type == "volume" and each.driver == "local" and each.destination in plan.image.volumes
            if not own and not (each.type == "tmpfs" and each.destination in plan.tmpfs):
                reasons.append(f"mounts: {each.destination} is {got!r}, which was not asked for")
        elif expected != got:
            reasons.append(f"mounts: {each.destination} is {got!r} instead of {expected!r}")
        if each.type == "bind" and each.propagation not in {"", "rprivate"}:
            reasons.append(f"mounts: {each.destination} has the propagation {each.propagation!r}")
    return reasons + [f"mounts: {target} is missing" for target in wanted]
