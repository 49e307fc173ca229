from __future__ import annotations

from typing import Any

import pytest

from chronicled.events.sandbox import SandboxRequest, Volume
from chronicled.runtimes.docker.plan import Limits, limits_here, refusals, ulimits_of, user_of
from chronicled.runtimes.docker.settings import DockerSettings

LIMITS = Limits({"nofile": 20000, "nproc": 5000, "core": -1})
SETTINGS = DockerSettings(image="image:1", memory_bytes_max=4 << 30, cpus_max=2.0)


def reasons(settings: DockerSettings = SETTINGS, image: str | None = None, **request: Any) -> list[str]:
    """Return why a request with these values is refused."""
    return refusals(SandboxRequest(**request), image, settings, LIMITS, ["none"])


def test_a_plain_request_is_not_refused() -> None:
    """What asks for nothing gets the configuration's values."""
    assert reasons() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", "open"),
        ("isolation", "firecracker"),
        ("user", "0"),
        ("user", "0:1000"),
        ("user", "1000:0"),
        ("memory_bytes", 5 << 30),
        ("cpus", 3.0),
        ("processes_max", 20000),
        ("tmpfs", {"/a": 3 << 30, "/b": 3 << 30}),
        ("tmpfs", {"/proc": 4096}),
        ("ulimits", {"nofile": 20001}),
        ("ulimits", {"nproc": -1}),
        ("ulimits", {"nonsense": 1}),
        ("ulimits", {"ofile": 1024}),
        ("ulimits", {"nofile": 511}),
        ("ulimits", {"nofile": 0}),
        ("ulimits", {"fsize": 4096}),
        ("ulimits", {"nproc": 1}),
        ("ulimits", {"as": 1 << 30}),
        ("ulimits", {"cpu": 60}),
        ("ulimits", {"core": 1}),
        ("ulimits", {"core": -1}),
        ("devices", ["/dev/sda"]),
        ("gpus", 1),
        ("gpus", -1),
        ("volumes", [Volume(source="/etc", target="/mnt")]),
    ],
)
def test_what_is_not_given_is_refused_by_name(name: str, value: Any) -> None:
    """Nothing that is asked for is dropped: what cannot be given is refused, with its name first."""
    found = reasons(**{name: value})
    assert found
    assert all(reason.startswith(f"{name}: ") for reason in found)


def test_what_is_allowed_is_given() -> None:
    """Devices, GPUs, root and isolations that the configuration allows are not refused."""
    settings = DockerSettings(
        image="i",
        root_allowed=True,
        devices_allowed=("/dev/fuse",),
        gpus_allowed=True,
        volumes_allowed=("/srv",),
        isolations_with_devices=("gvisor",),
    )
    asked: dict[str, Any] = {
        "user": "0:0",
        "devices": ["/dev/fuse"],
        "gpus": 1,
        "isolation": "gvisor",
        "volumes": [Volume(source="/srv/x", target="/mnt")],
        "ulimits": {"nofile": 20000},
    }
    assert reasons(settings, **asked) == []


def test_there_must_be_an_image() -> None:
    """Without an image of its own and without a default a session is refused."""
    assert reasons(DockerSettings())[0].startswith("image: ")
    assert reasons(DockerSettings(), image="image:1") == []


@pytest.mark.parametrize("image", ["FOO BAR", "Image:1", "-x", "a b", "a:", "http://r/x", "x" * 600, "..", "a\n"])
def test_an_image_has_a_name_that_images_can_have(image: str) -> None:
    """What can be the name of no image is refused when it is asked for, and not when a sandbox is to start."""
    assert reasons(image=image)[0].startswith("image: ")
    assert reasons(image="sha256:" + "0" * 64) == []


@pytest.mark.parametrize(
    ("request_user", "settings_user", "uid", "expected"),
    [
        (None, "", 0, "1000:1000"),
        (None, "", 501, "501:20"),
        (None, "7:8", 501, "7:8"),
        ("12345", "7:8", 0, "12345:12345"),
        ("12345:6", "7:8", 0, "12345:6"),
        ("0012:6", "", 0, "12:6"),
    ],
)
def test_the_user_is_numeric_and_has_a_group(
    request_user: str | None, settings_user: str, uid: int, expected: str
) -> None:
    """Commands run as the session's, the configuration's or this process's user, never as root by default."""
    settings = DockerSettings(user=settings_user)
    assert user_of(SandboxRequest(user=request_user), settings, uid, 20) == expected


def test_limits_stay_below_this_machines() -> None:
    """Open files and processes are limited at or below the hard limits, and there are no core dumps."""
    found = ulimits_of(SandboxRequest(), SETTINGS, LIMITS)
    assert found == {"core": 0, "nofile": 20000, "nproc": 5000}
    here = limits_here()
    assert all(here.allows(name, value) for name, value in ulimits_of(SandboxRequest(), SETTINGS, here).items())


def test_a_session_lowers_the_operators_limits_and_raises_none() -> None:
    """What the configuration says of every process holds for every session, and none may have dumps made of it."""
    settings = DockerSettings(image="i", files_max=1024, ulimits={"nproc": 500, "memlock": 0})
    for name, most in (("nofile", 1024), ("nproc", 500), ("memlock", 0)):
        assert reasons(settings, ulimits={name: most}) == []
        for value in (most + 1, -1):
            (found,) = reasons(settings, ulimits={name: value})
            assert found.startswith(f"ulimits: {name} is above")
    assert reasons(settings, ulimits={"nofile": 600, "nproc": 300, "sigpending": 10, "stack": -1}) == []


def test_a_list_needs_a_shared_directory() -> None:
    """Where frames travel over the engine's API there is no way to a proxy, so a list is refused, and nothing else."""
    networks = ["none", "open", "web"]
    for settings in (DockerSettings(image="i"), DockerSettings(image="i", transport="stdio")):
        found = {name: refusals(SandboxRequest(network=name), None, settings, LIMITS, networks) for name in networks}
        assert [name for name, reasons in found.items() if reasons] == (
            ["web"] if settings.transport == "stdio" else []
        )


def test_files_among_the_images_cannot_be_kept_from_changes() -> None:
    """A read-only image has no room for the session's own files: that is refused where they are in its layer."""
    settings = DockerSettings(image="i", workspace="layer")
    assert [reason.partition(":")[0] for reason in reasons(settings, read_only=True)] == ["read_only"]
    assert reasons(settings) == reasons(SETTINGS, read_only=True) == []
    settings = DockerSettings(image="i", workspace="layer", read_only=True)
    assert [reason.partition(":")[0] for reason in reasons(settings)] == ["read_only"]
    assert reasons(settings, read_only=False) == []


def test_what_an_isolation_would_drop_is_refused() -> None:
    """Devices and GPUs are not passed on by every isolation: where the operator does not say so they are refused."""
    allowed: dict[str, Any] = {"image": "i", "devices_allowed": ("/dev/fuse",), "gpus_allowed": True}
    asked: dict[str, Any] = {"devices": ["/dev/fuse"], "gpus": 1}
    assert reasons(DockerSettings(**allowed), **asked) == []
    for settings in (DockerSettings(**allowed, isolation="gvisor"), DockerSettings(**allowed)):
        isolation = None if settings.isolation else "gvisor"
        found = reasons(settings, isolation=isolation, **asked)
        assert [reason.partition(":")[0] for reason in found] == ["devices", "gpus"]
        assert reasons(settings, isolation=isolation) == []
    kata = {"kata": "kata-runtime"}
    settings = DockerSettings(**allowed, isolations=kata, isolations_with_devices=("kata",))
    assert reasons(settings, isolation="kata", **asked) == []
