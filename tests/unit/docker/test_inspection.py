from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.docker.plans import FACTS, container, described, plan_of

from chronicled.runtimes.docker.inspection import differences

OTHERS: dict[str, Any] = {
    "Privileged": True,
    "CapDrop": None,
    "CapAdd": ["CAP_SYS_ADMIN"],
    "SecurityOpt": ["no-new-privileges", "seccomp=unconfined"],
    "UsernsMode": "host",
    "PidMode": "host",
    "IpcMode": "shareable",
    "UTSMode": "host",
    "CgroupnsMode": "host",
    "CgroupParent": "/elsewhere",
    "ReadonlyRootfs": False,
    "MaskedPaths": [],
    "ReadonlyPaths": None,
    "Binds": ["/:/host"],
    "VolumesFrom": ["other"],
    "Tmpfs": {"/tmp": "rw,size=1048576"},
    "Devices": [{"PathOnHost": "/dev/sda", "CgroupPermissions": "rwm"}],
    "DeviceCgroupRules": ["c 42:* rmw"],
    "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}],
    "Sysctls": {"net.ipv4.ip_forward": "1"},
    "GroupAdd": ["0"],
    "Memory": 0,
    "MemorySwap": -1,
    "NanoCpus": 0,
    "PidsLimit": None,
    "ShmSize": 1 << 40,
    "Ulimits": None,
    "StorageOpt": None,
    "OomKillDisable": True,
    "OomScoreAdj": -1000,
    "NetworkMode": "host",
    "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    "PublishAllPorts": True,
    "Links": ["other"],
    "Dns": ["192.0.2.1"],
    "ExtraHosts": ["registry:192.0.2.1"],
    "Init": False,
    "LogConfig": {"Type": "json-file"},
    "RestartPolicy": {"Name": "always"},
    "AutoRemove": True,
    "Runtime": "runc",
}
"""Each control of the host's side with another value than planned."""


def test_as_planned_there_is_no_difference() -> None:
    """A container that is as the plan says passes, with the volumes that its image makes for itself."""
    assert differences(plan_of(), container(described(plan_of())), FACTS) == []


@pytest.mark.parametrize("control", sorted(OTHERS))
def test_every_control_is_looked_at(control: str) -> None:
    """A control with another value than planned is noticed."""
    description = described(plan_of())
    description["HostConfig"][control] = OTHERS[control]
    assert differences(plan_of(), container(description), FACTS)


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
    ("section", "change"),
    [
        ("Config", {"User": ""}),
        ("Config", {"User": "0:0"}),
        ("Config", {"Labels": {}}),
        ("Config", {"Env": ["LD_PRELOAD=/evil.so"]}),
        ("Config", {"Healthcheck": {"Test": ["CMD", "true"]}}),
        ("Config", {"OpenStdin": True}),
        ("Config", {"Tty": True}),
        ("NetworkSettings", {"Networks": {"none": {}, "bridge": {}}}),
        ("NetworkSettings", {"Networks": None}),
        ("NetworkSettings", {"Ports": {"80/tcp": [{"HostPort": "1"}]}}),
    ],
)
def test_what_runs_and_where_it_is_connected_is_looked_at(section: str, change: dict[str, Any]) -> None:
    """User, labels, environment, checks, terminal and networks are compared too."""
    description = described(plan_of())
    description[section] = {**description[section], **change}
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
    assert differences(plan_of(), container(described(plan_of())), facts)
