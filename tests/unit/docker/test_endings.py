from __future__ import annotations

from typing import Any

import pytest

from chronicled.runtimes.action_server.reaper import ending, exit_status
from chronicled.runtimes.docker.container import State
from chronicled.runtimes.docker.facts import facts_of
from chronicled.runtimes.docker.labels import labels_of, owner_of
from chronicled.runtimes.docker.notices import Shortage
from chronicled.runtimes.docker.sandbox import ending_of


@pytest.mark.parametrize("reason", ["ended", "terminated", "server-signal-9", "server-signal-15", "server-exit-1"])
def test_the_exit_status_tells_the_reason(reason: str) -> None:
    """What the reaper says by its exit status is read back."""
    assert ending(exit_status(reason)) == reason


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"status": "exited", "exit_code": 0}, "ended"),
        ({"status": "exited", "exit_code": 143}, "terminated"),
        ({"status": "exited", "exit_code": 137}, "killed"),
        ({"status": "exited", "exit_code": 137, "oom_killed": True}, "oom_killed"),
        ({"status": "exited", "exit_code": 169, "oom_killed": True}, "oom_killed"),
        ({"status": "exited", "exit_code": 0, "oom_killed": True}, "ended"),
        ({"status": "exited", "exit_code": 139}, "killed-signal-11"),
        ({"status": "removed"}, "removed"),
        ({"status": "removing", "exit_code": 137}, "removed"),
        ({"status": "restarted"}, "restarted"),
    ],
)
def test_the_last_state_tells_why_it_ended(state: dict[str, Any], reason: str) -> None:
    """Ended, terminated, killed, out of memory, removed: as the engine proves."""
    assert ending_of(State(**state)) == reason


def test_an_old_want_of_memory_does_not_explain_a_kill() -> None:
    """A container that was killed long after the kernel had killed something in it was killed, not out of memory."""
    shortage = Shortage()
    shortage.note(1_700_000_000 * 10**9)
    state: dict[str, Any] = {"status": "exited", "exit_code": 137, "oom_killed": True}
    late = State(**state, finished_at="2023-11-14T22:23:20.123456789Z")
    soon = State(**state, finished_at="2023-11-14T22:13:21.123456789Z")
    assert ending_of(late, shortage) == "killed"
    assert ending_of(soon, shortage) == "oom_killed"


def test_labels_say_whose_it_is() -> None:
    """Instance, sandbox and position are read back from the labels."""
    labels = labels_of(instance="i", worker="w", sandbox="s", generation="g", position=12)
    owner = owner_of(labels)
    assert owner is not None
    assert (owner.instance, owner.sandbox, owner.position) == ("i", "s", 12)


@pytest.mark.parametrize(
    "change",
    [{"chronicled.position": position} for position in ("", "x", "-1", "1.0", "\u0661", "01", "1 ")]
    + [{f"chronicled.{name}": ""} for name in ("instance", "sandbox", "worker", "generation")],
)
def test_labels_in_part_are_nobodys(change: dict[str, str]) -> None:
    """With a label missing or malformed it is not ours."""
    labels = labels_of(instance="i", worker="w", sandbox="s", generation="g", position=12)
    assert owner_of({**labels, **change}) is None
    for name in labels:
        assert owner_of({other: value for other, value in labels.items() if other != name}) is None


def test_podmans_changing_id_is_not_taken() -> None:
    """An engine that makes up an id for each answer is known by its name and its data directory."""
    info = {"ID": "1", "Name": "host", "DockerRootDir": "/var/lib/containers/storage"}
    podman = {"Components": [{"Name": "Podman Engine"}]}
    assert facts_of(info, podman).id == facts_of({**info, "ID": "2"}, podman).id
    assert facts_of(info, {}).id == "1"


@pytest.mark.parametrize(
    ("options", "seccomp"),
    [
        (["name=seccomp,profile=default"], True),
        (["name=apparmor", "name=seccomp,profile=builtin"], True),
        (["name=seccomp,profile=unconfined"], False),
        (["name=apparmor"], False),
        (None, False),
    ],
)
def test_seccomp_is_read_from_the_engine(options: list[str] | None, seccomp: bool) -> None:
    """Whether the engine confines system calls is known before anything is started."""
    assert facts_of({"ID": "1", "SecurityOptions": options}, {}).seccomp is seccomp


KEEPS = {"MemoryLimit": True, "CpuCfsPeriod": True, "CpuCfsQuota": True, "PidsLimit": True}


@pytest.mark.parametrize(
    ("info", "unkept"),
    [
        (KEEPS, ()),
        ({**KEEPS, "MemoryLimit": False}, ("memory_bytes",)),
        ({**KEEPS, "CpuCfsQuota": False}, ("cpus",)),
        ({**KEEPS, "CpuCfsPeriod": False}, ("cpus",)),
        ({**KEEPS, "PidsLimit": False}, ("processes_max",)),
        ({}, ("memory_bytes", "cpus", "processes_max")),
    ],
)
def test_what_an_engine_does_not_keep_is_known(info: dict[str, bool], unkept: tuple[str, ...]) -> None:
    """Limits that an engine would only repeat are those that it does not say it has."""
    assert facts_of({"ID": "1", **info}, {}).unkept == unkept
