"""The Docker engine for tests, with the test images: `engine` and `carrier` are fixtures for everybody (conftest.py).

Tests that need an engine are skipped where there is none, with the commands that bring one; CI allows no skipped test.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from chronicled.runtimes.carrier import Carrier, ensure_carrier

__all__ = ["DEBIAN", "FILE", "IMAGES", "MUSL", "NO_PYTHON", "RUBBISH", "Engine", "carrier", "engine", "usual_engine"]

DEBIAN: Final = "chronicled-test/debian:1"
NO_PYTHON: Final = "chronicled-test/nopython:1"
MUSL: Final = "chronicled-test/musl:1"
RUBBISH: Final = "chronicled-test/rubbish:1"
FILE: Final = "chronicled-test/file:1"
IMAGES: Final = (DEBIAN, NO_PYTHON, MUSL, RUBBISH, FILE)
REMEDY: Final = "as root on a Debian machine: tests/engine/start && tests/engine/images (`make engine`)"
HOST: Final = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
_SECONDS_MAX: Final = 60.0


class Engine:
    """The engine's command line.

    Args:
        architecture: Of its processors.
        host: Where it answers.
    """

    def __init__(self, architecture: str, host: str) -> None:
        self.architecture = architecture
        self.host = host

    @property
    def answers(self) -> bool:
        """Whether it is there."""
        return _docker(["--host", self.host, "version"]).returncode == 0

    def __call__(self, *words: str, data: bytes | None = None) -> str:
        """Run `docker WORDS`, give it the data to read, return what it printed; fail with its complaint."""
        done = _docker(["--host", self.host, *words], data)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode(errors="replace").strip()


def _docker(words: Sequence[str], data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *words], input=data or b"", capture_output=True, timeout=_SECONDS_MAX, check=False)


def _find_engine() -> Engine | str:
    """Return the engine, or why there is none."""
    try:
        version = _docker(["version", "--format", "{{.Server.Arch}}"])
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"there is no docker command that answers ({error})"
    if version.returncode != 0:
        return f"no Docker engine answers at {HOST}"
    missing = [name for name in IMAGES if _docker(["image", "inspect", name]).returncode != 0]
    if missing:
        return f"the engine lacks {', '.join(missing)}"
    return Engine(version.stdout.decode().strip(), HOST)


@pytest.fixture(scope="session")
def usual_engine() -> Engine:
    """A Docker engine with the test images."""
    found = _find_engine()
    if isinstance(found, str):
        pytest.skip(f"{found}; {REMEDY}")
    return found


@pytest.fixture(scope="session")
def engine(usual_engine: Engine) -> Engine:
    """The usual engine, unless the tests' own module puts another in its place."""
    return usual_engine


@pytest.fixture(scope="session")
def carrier(usual_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Carrier:
    """The carrier of the code under test, for the engine's processors."""
    directory: Path = tmp_path_factory.mktemp("carriers")
    return ensure_carrier(directory, usual_engine.architecture)
