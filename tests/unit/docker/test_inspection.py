from __future__ import annotations

import ast
import inspect
from typing import Any

import msgspec
import pytest
from tests.unit.docker.plans import FACTS, container, described, plan_of

from chronicled.runtimes.docker import inspection
from chronicled.runtimes.docker.inspection import differences

Change = tuple[str, dict[str, Any]]

OTHERS: dict[str, list[Change]] = {
    # Who it is.
    "image": [("", {"Image": "sha256:2"}), ("", {"Image": ""})],
    "user": [("Config", {"User": ""}), ("Config", {"User": "0:0"})],
    "labels": [("Config", {"Labels": {}}), ("Config", {"Labels": None})],
    "environment": [("Config", {"Env": ["LC_ALL=C", "LD_PRELOAD=/evil.so"]})],
    "environment of our own": [("Config", {"Env": []}), ("Config", {"Env": ["LC_ALL=C", "LC_ALL=de"]})],
    "health check": [("Config", {"Healthcheck": None}), ("Config", {"Healthcheck": {"Test": ["CMD", "true"]}})],
    "standard input": [("Config", {"OpenStdin": True})],
    "terminal": [("Config", {"Tty": True})],
    # What it may.
    "privileged": [("HostConfig", {"Privileged": True})],
    "dropped capabilities": [("HostConfig", {"CapDrop": None}), ("HostConfig", {"CapDrop": ["NET_RAW"]})],
    "added capabilities": [("HostConfig", {"CapAdd": ["CAP_SYS_ADMIN"]})],
    "no-new-privileges": [("HostConfig", {"SecurityOpt": ["seccomp={}"]})],
    "seccomp": [
        ("HostConfig", {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]}),
        ("HostConfig", {"SecurityOpt": ["no-new-privileges", "seccomp={}", "seccomp=unconfined"]}),
        ("HostConfig", {"SecurityOpt": ["no-new-privileges"]}),
    ],
    "security options": [
        ("HostConfig", {"SecurityOpt": ["no-new-privileges", "seccomp={}", "apparmor=unconfined"]}),
        ("HostConfig", {"SecurityOpt": ["no-new-privileges", "seccomp={}", "no-new-privileges=false"]}),
    ],
    "user namespace": [("HostConfig", {"UsernsMode": "host"})],
    "groups": [("HostConfig", {"GroupAdd": ["0"]})],
    "isolation": [("HostConfig", {"Runtime": "runc"})],
    # What it sees.
    "process namespace": [("HostConfig", {"PidMode": "host"}), ("HostConfig", {"PidMode": "container:other"})],
    "ipc namespace": [("HostConfig", {"IpcMode": "shareable"}), ("HostConfig", {"IpcMode": "host"})],
    "host name namespace": [("HostConfig", {"UTSMode": "host"})],
    "cgroup namespace": [("HostConfig", {"CgroupnsMode": "host"})],
    "read_only": [("HostConfig", {"ReadonlyRootfs": False})],
    "masked paths": [("HostConfig", {"MaskedPaths": ["/proc/kcore"]})],
    "read-only paths": [("HostConfig", {"ReadonlyPaths": ["/proc/sys"]})],
    "binds": [("HostConfig", {"Binds": ["/:/host"]})],
    "volumes of others": [("HostConfig", {"VolumesFrom": ["other"]})],
    "tmpfs": [
        ("HostConfig", {"Tmpfs": {"/tmp": "rw,nosuid,nodev"}}),
        ("HostConfig", {"Tmpfs": {"/tmp": "rw,nosuid,size=1048576"}}),
        ("HostConfig", {"Tmpfs": {"/tmp": "rw,nosuid,nodev,size=1048577"}}),
        ("HostConfig", {"Tmpfs": {"/tmp": "rw,nosuid,nodev,size=1048576", "/more": "nosuid,nodev,size=1"}}),
    ],
    "devices": [
        ("HostConfig", {"Devices": [{"PathOnHost": "/dev/sda", "CgroupPermissions": "rw"}]}),
        ("HostConfig", {"Devices": [{"PathOnHost": "/dev/fuse", "CgroupPermissions": "rwm"}]}),
    ],
    "device rules": [("HostConfig", {"DeviceCgroupRules": ["c 42:* rmw"]})],
    "gpus": [("HostConfig", {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]})],
    "kernel settings": [("HostConfig", {"Sysctls": {"net.ipv4.ip_forward": "1"}})],
    # What it takes.
    "memory_bytes": [("HostConfig", {"Memory": 0})],
    "swap": [("HostConfig", {"MemorySwap": -1}), ("HostConfig", {"MemorySwap": 2 << 30})],
    "cpus": [("HostConfig", {"NanoCpus": 0})],
    "processes_max": [("HostConfig", {"PidsLimit": 0}), ("HostConfig", {"PidsLimit": -1})],
    "shared memory": [("HostConfig", {"ShmSize": 1 << 40})],
    "ulimits": [("HostConfig", {"Ulimits": [{"Name": "core", "Soft": 0, "Hard": 1}]})],
    "disk_bytes": [("HostConfig", {"StorageOpt": {"size": "1"}})],
    "out-of-memory killer": [("HostConfig", {"OomKillDisable": True})],
    "out-of-memory score": [("HostConfig", {"OomScoreAdj": -1000}), ("HostConfig", {"OomScoreAdj": 0})],
    "parent cgroup": [("HostConfig", {"CgroupParent": "/elsewhere"})],
    # Whom it reaches.
    "network": [("HostConfig", {"NetworkMode": "host"})],
    "networks": [
        ("NetworkSettings", {"Networks": {"none": {}, "bridge": {}}}),
        ("NetworkSettings", {"Networks": None}),
    ],
    "published ports": [
        ("HostConfig", {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}),
        ("NetworkSettings", {"Ports": {"80/tcp": [{"HostPort": "1"}]}}),
    ],
    "published ports, all": [("HostConfig", {"PublishAllPorts": True})],
    "links": [("HostConfig", {"Links": ["other"]})],
    "name servers": [("HostConfig", {"Dns": ["192.0.2.1"]})],
    "hosts": [("HostConfig", {"ExtraHosts": ["registry:192.0.2.1"]})],
    # How it lives.
    "init": [("HostConfig", {"Init": False})],
    "log driver": [("HostConfig", {"LogConfig": {"Type": "json-file"}})],
    "restart policy": [("HostConfig", {"RestartPolicy": {"Name": "always"}})],
    "removal by the engine": [("HostConfig", {"AutoRemove": True})],
}
"""Each control with other values than planned."""
OF_THE_ENGINE = {"seccomp of the engine"}
"""Controls that no container has for itself."""


def changed(section: str, change: dict[str, Any]) -> dict[str, Any]:
    """Return what an engine would say of a container that is as planned, but for this change."""
    description = described(plan_of())
    if not section:
        return {**description, **change}
    return {**description, section: {**description[section], **change}}


def test_as_planned_there_is_no_difference() -> None:
    """A container that is as the plan says passes, with the volumes that its image makes for itself."""
    assert differences(plan_of(), container(described(plan_of())), FACTS) == []


@pytest.mark.parametrize("control", sorted(OTHERS))
def test_every_control_is_looked_at(control: str) -> None:
    """A control with another value than planned is noticed: that one, by its name, and no other."""
    for section, change in OTHERS[control]:
        found = differences(plan_of(), container(changed(section, change)), FACTS)
        assert [reason.partition(":")[0] for reason in found] == [control], change


def test_no_control_is_left_out_here() -> None:
    """Whatever the inspection compares, the table above has with another value."""
    yields = [node.value for node in ast.walk(ast.parse(inspect.getsource(inspection))) if isinstance(node, ast.Yield)]
    names = [ast.literal_eval(each.elts[0]) for each in yields if isinstance(each, ast.Tuple)]
    assert len(names) == len(yields)
    assert set(names) == OTHERS.keys() | OF_THE_ENGINE


WANTED = {
    "Privileged",
    "CapDrop",
    "SecurityOpt",
    "IpcMode",
    "CgroupnsMode",
    "ReadonlyRootfs",
    "MaskedPaths",
    "ReadonlyPaths",
    "Tmpfs",
    "Devices",
    "DeviceRequests",
    "Memory",
    "MemorySwap",
    "NanoCpus",
    "PidsLimit",
    "ShmSize",
    "Ulimits",
    "StorageOpt",
    "OomScoreAdj",
    "NetworkMode",
    "Init",
    "LogConfig",
    "Runtime",
}


@pytest.mark.parametrize("control", sorted(WANTED))
def test_a_control_that_is_not_told_is_not_kept(control: str) -> None:
    """What an engine does not tell of counts as not done."""
    description = described(plan_of())
    del description["HostConfig"][control]
    assert differences(plan_of(), container(description), FACTS)


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, None),
        (0, {"RW": True}),
        (0, {"Source": "/elsewhere"}),
        (1, {"Propagation": "shared"}),
        (2, {"Name": "another"}),
        (3, {"Driver": "nfs"}),
        (4, {"Type": "bind", "Source": "/", "Destination": "/host", "RW": True}),
        (4, {"Type": "volume", "Name": "1", "Driver": "local", "Destination": "/else"}),
    ],
)
def test_every_mount_is_looked_at(index: int, change: dict[str, Any] | None) -> None:
    """A mount that is missing, other than planned, or one too many is noticed."""
    description = described(plan_of())
    mounts: list[dict[str, Any]] = description["Mounts"]
    found = mounts.pop(index) if index < len(mounts) else {}
    if change is not None:
        mounts.append({**found, **change})
    assert any("mounts" in reason for reason in differences(plan_of(), container(description), FACTS))


def test_an_engine_without_seccomp_is_a_difference() -> None:
    """An engine that runs everything unconfined is noticed whatever the container says."""
    facts = msgspec.structs.replace(FACTS, seccomp=False)
    found = differences(plan_of(), container(described(plan_of())), facts)
    assert [reason.partition(":")[0] for reason in found] == ["seccomp of the engine"]
