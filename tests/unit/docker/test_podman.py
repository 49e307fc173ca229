"""Podman's words in those of Docker, with what the kernel shows: what is not so is not called so."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
from tests.unit.docker.plans import FACTS, described, plan_of

from chronicled.runtimes.docker.container import Container
from chronicled.runtimes.docker.inspection import MASKED, READ_ONLY, differences
from chronicled.runtimes.docker.kernel_view import KernelView, kept_in, look
from chronicled.runtimes.docker.podman import translated

KEPT = KernelView(
    capabilities=(),
    no_new_privileges=True,
    seccomp=True,
    own_namespaces=frozenset({"cgroup", "ipc", "mnt", "net", "pid", "uts"}),
    masked=MASKED,
    read_only=READ_ONLY,
)


def in_words_of_podman() -> dict[str, Any]:
    """Return what Podman would say of the plan's container."""
    told = described(plan_of())
    host = told["HostConfig"]
    host |= {"CapDrop": ["CHOWN", "KILL"], "PidMode": "private", "IpcMode": "shareable", "UTSMode": "private"}
    host |= {"CgroupnsMode": "", "MaskedPaths": None, "ReadonlyPaths": None}
    host["Binds"] = ["/carrier:/.chronicled:ro,rprivate,bind", "/home/1:/workspace:rprivate,bind,rw"]
    host["Ulimits"] = [each | {"Name": f"RLIMIT_{each['Name'].upper()}"} for each in host["Ulimits"]]
    told["NetworkSettings"] = {"Networks": {}, "Ports": {}}
    return told


def judged(view: KernelView, told: dict[str, Any] | None = None) -> list[str]:
    """Return the names of what differs."""
    found = msgspec.convert(told or in_words_of_podman(), Container)
    return [reason.partition(":")[0] for reason in differences(plan_of(), translated(found, view), FACTS)]


def test_other_words_for_the_same_are_no_difference() -> None:
    """A container that the kernel shows as planned is as planned, however Podman puts it."""
    assert judged(KEPT) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"capabilities": ("NET_RAW",)}, "added capabilities"),
        ({"no_new_privileges": False}, "no-new-privileges"),
        ({"seccomp": False}, "seccomp"),
        ({"own_namespaces": KEPT.own_namespaces - {"pid"}}, "process namespace"),
        ({"own_namespaces": KEPT.own_namespaces - {"ipc"}}, "ipc namespace"),
        ({"own_namespaces": KEPT.own_namespaces - {"uts"}}, "host name namespace"),
        ({"own_namespaces": KEPT.own_namespaces - {"cgroup"}}, "cgroup namespace"),
        ({"own_namespaces": KEPT.own_namespaces - {"net"}}, "networks"),
        ({"masked": MASKED - {"/proc/keys"}}, "masked paths"),
        ({"read_only": READ_ONLY - {"/proc/sys"}}, "read-only paths"),
    ],
)
def test_what_the_kernel_does_not_show_is_a_difference(changes: dict[str, Any], name: str) -> None:
    """Negative controls: each control that does not hold is named, whatever the engine says."""
    assert name in judged(msgspec.structs.replace(KEPT, **changes))


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("PidMode", "container:other", "process namespace"),
        ("IpcMode", "host", "ipc namespace"),
        ("Binds", ["/etc:/more:rw"], "binds"),
        ("Ulimits", [], "ulimits"),
    ],
)
def test_other_words_for_something_else_stay_a_difference(field: str, value: object, name: str) -> None:
    """Negative controls: only what means the same is put in Docker's words."""
    told = in_words_of_podman()
    told["HostConfig"][field] = value
    assert name in judged(KEPT, told)


def test_the_kernel_is_asked_of_a_process() -> None:
    """This process shares its own namespaces, masks nothing by itself, and is in no container's cgroup."""
    view = look(os.getpid(), ["/proc/self/status", "/none"], ["/proc/self/status", "/none"])
    assert view.own_namespaces == frozenset()
    assert view.masked | view.read_only == frozenset({"/none"})
    assert not kept_in(os.getpid(), "0" * 64)
    with pytest.raises(FileNotFoundError):
        look(2**30, (), ())
