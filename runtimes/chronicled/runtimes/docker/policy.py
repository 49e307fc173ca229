"""The policy: what the engine is told to make of a plan. A pure function, and the only place that writes it down."""

from __future__ import annotations

from typing import Any, Final

from chronicled.runtimes.action_server import bootstrap
from chronicled.runtimes.docker import paths
from chronicled.runtimes.docker.plan import RUN_DIRECTORY, Mount, Plan

__all__ = ["SETTINGS_NAME", "container_body"]

SETTINGS_NAME: Final = "settings"
"""The file in the socket directory that tells the action server who it is, until it has proven itself."""
STOP_SECONDS: Final = 5
_INTERPRETER: Final = f"{paths.CARRIER}/bin/python3"
_BOOTSTRAP: Final = f"{paths.CARRIER}/lib/site/chronicled/runtimes/action_server/bootstrap.py"
_OUT_OF_MEMORY_SCORE: Final = 500
"""When the whole machine runs out of memory, a sandbox goes before the daemon does."""


def container_body(plan: Plan) -> dict[str, Any]:
    """Return the body of `POST /containers/create`."""
    return {
        "Image": plan.image.id,
        "User": plan.user,
        "Labels": dict(plan.labels),
        "Hostname": "sandbox",
        "WorkingDir": "/",
        "Entrypoint": [_INTERPRETER, "-I", "-S", _BOOTSTRAP],
        "Cmd": [plan.sandbox, plan.generation, *_told(plan)],
        # Blank, since an image's variables cannot be taken away: what its commands see is told by the settings.
        "Env": [*(f"{name}=" for name in plan.blanked), *(f"{name}={value}" for name, value in plan.own.items())],
        "Tty": False,
        "OpenStdin": plan.stdio,
        "StdinOnce": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        # An image's own check would be a command that nobody has asked for.
        "Healthcheck": {"Test": ["NONE"]},
        "StopSignal": "SIGTERM",
        "StopTimeout": STOP_SECONDS,
        "HostConfig": _host(plan),
    }


def _told(plan: Plan) -> list[str]:
    if plan.stdio:
        return [bootstrap.STDIO_OPTION]
    return [bootstrap.SETTINGS_OPTION, f"{RUN_DIRECTORY}/{SETTINGS_NAME}"]


def _host(plan: Plan) -> dict[str, Any]:
    host: dict[str, Any] = {
        # Who it is.
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(plan.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "UsernsMode": "",
        # What it sees.
        "PidMode": "",
        "IpcMode": "private",
        "UTSMode": "",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": plan.read_only,
        "Mounts": [_mount(mount) for mount in plan.mounts],
        "Tmpfs": {path: f"rw,nosuid,nodev,exec,mode=1777,size={size}" for path, size in plan.tmpfs.items()},
        "Devices": [
            {"PathOnHost": device, "PathInContainer": device, "CgroupPermissions": "rw"} for device in plan.devices
        ],
        # Whom it reaches, and who it.
        "NetworkMode": plan.grant.mode,
        "Dns": list(plan.grant.dns),
        "ExtraHosts": [f"{name}:{address}" for name, address in plan.grant.hosts.items()],
        "PortBindings": {},
        "PublishAllPorts": False,
        # What it takes.
        "Memory": plan.memory_bytes,
        "MemorySwap": plan.memory_bytes,
        "NanoCpus": plan.nano_cpus,
        "PidsLimit": plan.processes_max,
        "ShmSize": plan.shm_bytes,
        "Ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in sorted(plan.ulimits.items())],
        "OomKillDisable": False,
        "OomScoreAdj": _OUT_OF_MEMORY_SCORE,
        # How it lives: what it prints goes nowhere but to us, and nobody but us starts it again.
        "Init": True,
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,
    }
    if plan.seccomp_profile:
        host["SecurityOpt"].append(f"seccomp={plan.seccomp_profile}")
    if plan.disk_bytes:
        host["StorageOpt"] = {"size": str(plan.disk_bytes)}
    if plan.gpus:
        host["DeviceRequests"] = [{"Driver": "", "Count": plan.gpus, "Capabilities": [["gpu"]]}]
    if plan.runtime is not None:
        host["Runtime"] = plan.runtime
    return host


def _mount(mount: Mount) -> dict[str, Any]:
    written: dict[str, Any] = {
        "Type": mount.type,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
    if mount.type == "bind":
        # Without what is mounted below it: that is another file system, which nobody has allowed.
        written["BindOptions"] = {"Propagation": "rprivate", "NonRecursive": True}
    elif mount.target == paths.CARRIER:
        # Whatever becomes of it, what an image has there does not get into what other images are given.
        written["VolumeOptions"] = {"NoCopy": True}
    return written
