"""How the docker runtime is put together: what it is told to keep from sandboxes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chronicled.daemon.configuration import load
from chronicled.daemon.containers import open_containers
from chronicled.events.clock import SystemClock
from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import Volume
from chronicled.runtimes.docker import volumes
from chronicled.runtimes.docker.engine_tls import files_of
from chronicled.runtimes.news import News


async def test_no_sandbox_sees_what_proves_who_the_daemon_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token, credentials, keys and the data itself cannot be mounted, nor what is above them, though it is allowed."""
    home = tmp_path / "home"
    places = {
        name: home / name for name in ("data", "run", "sockets", "token", "registry", "tls", "former", "keys", "plain")
    }
    for name in ("token", "registry"):
        (places[name] / "inner").mkdir(parents=True)
        (places[name] / "inner" / "file").touch()
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(places["keys"]))
    monkeypatch.setenv("DOCKER_CERT_PATH", str(places["former"]))
    settings = load(
        environment={},
        flags={
            "data.directory": str(places["data"]),
            "data.runtime_directory": str(places["run"]),
            "http.socket": str(places["sockets"] / "s"),
            "http.token_file": str(places["token"] / "inner" / "file"),
            "images.credentials_file": str(places["registry"] / "inner" / "file"),
            "docker.tls_directory": str(places["tls"]),
            "docker.volumes_allowed": [str(home)],
        },
    )
    async with AsyncExitStack() as stack:
        runtime, _ = await open_containers(settings, stack, SystemClock(), News(), instance="i", worker="w")
        for name, place in places.items():
            asked = [Volume(source=str(place), target="/mnt")]
            looking = volumes.mounts_of(asked, (str(home),), runtime.protected, runtime.engine)
            if name == "plain":
                assert [mount.source for mount in await looking] == [str(place)]
                continue
            with pytest.raises(SandboxStartFailed, match="no sandbox may see"):
                await looking


def test_files_of_tls_are_found_as_docker_finds_them() -> None:
    """The setting first, then Docker's variables; without the word that asks for TLS they say nothing."""
    certificates = {"DOCKER_CERT_PATH": "/certificates"}
    asks = {"DOCKER_TLS_VERIFY": "1", "HOME": "/home/me"}
    assert files_of("/set", certificates | asks) == "/set"
    assert files_of("", certificates | asks) == "/certificates"
    assert files_of("", asks | {"DOCKER_CONFIG": "/docker"}) == "/docker"
    assert files_of("", asks) == "/home/me/.docker"
    assert files_of("", certificates) == ""
