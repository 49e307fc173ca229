"""A plan and what an engine would say of its container, for tests without an engine."""

from __future__ import annotations

from typing import Any

import msgspec

from chronicled.runtimes.docker.container import Container
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.labels import labels_of
from chronicled.runtimes.docker.network_policy import NO_NETWORK
from chronicled.runtimes.docker.plan import Mount, Plan
from chronicled.runtimes.docker.policy import container_body

FACTS = EngineFacts(
    id="engine",
    version="1",
    driver="overlay2",
    backing="extfs",
    runtimes=("runc", "runsc"),
    podman=False,
    seccomp=True,
    rootless=False,
    remapped=False,
    swap_limit=True,
    unkept=(),
    cpus=2,
    memory_bytes=8 << 30,
    root_directory="/var/lib/docker",
    architecture="x86_64",
    live_restore=False,
)


def plan_of(**changes: Any) -> Plan:
    """Return a plan that uses every control."""
    values: dict[str, Any] = {
        "sandbox": "sandbox",
        "generation": "generation",
        "labels": labels_of(instance="i", worker="w", sandbox="sandbox", generation="generation", position=7),
        "image": ResolvedImage(reference="image:1", id="sha256:1", digest=None, volumes=("/data",)),
        "user": "1000:1000",
        "capabilities": (),
        "read_only": True,
        "memory_bytes": 1 << 30,
        "cpus": 1.5,
        "processes_max": 100,
        "shm_bytes": 1 << 20,
        "disk_bytes": 1 << 30,
        "ulimits": {"core": 0, "nofile": 1024, "nproc": 512},
        "mounts": (
            Mount(source="/carrier", target="/.chronicled", read_only=True),
            Mount(source="/home/1", target="/workspace", read_only=False),
            Mount(type="volume", source="cache", target="/cache", read_only=False),
        ),
        "tmpfs": {"/tmp": 1 << 20},
        "devices": ("/dev/fuse",),
        "gpus": 1,
        "runtime": "runsc",
        "grant": NO_NETWORK,
        "seccomp_profile": "{}",
        "blanked": ("LD_PRELOAD", "PYTHONHOME"),
        "own": {"LC_ALL": "C"},
        "stdio": False,
    }
    return Plan(**{**values, **changes})


def described(plan: Plan) -> dict[str, Any]:
    """Return what an engine would say of the plan's container, were it made as the policy writes."""
    body = container_body(plan)
    host = body.pop("HostConfig")
    image = body.pop("Image")
    mounts = [
        {
            "Type": mount["Type"],
            "Name": mount["Source"] if mount["Type"] == "volume" else "",
            "Source": mount["Source"],
            "Destination": mount["Target"],
            "RW": not mount["ReadOnly"],
            "Propagation": "rprivate" if mount["Type"] == "bind" else "",
        }
        for mount in host["Mounts"]
    ]
    mounts.append({"Type": "volume", "Name": "0f", "Driver": "local", "Destination": "/data", "RW": True})
    return {
        "Id": "1",
        "Image": image,
        "Config": body,
        "HostConfig": {
            **host,
            "MaskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi"],
            "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
        "Mounts": mounts,
        "NetworkSettings": {"Networks": {"none": {}}, "Ports": {}},
    }


def container(description: dict[str, Any]) -> Container:
    """Return the description as the engine's client reads it."""
    return msgspec.convert(description, Container)
