"""An engine, a registry, and images of the tests' own, all gone in the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import subprocess
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiodocker import Docker, DockerError
from tests.engine.fixture import Engine
from tests.integration.images.registry import HOSTS, ROOT, Registry

from chronicled.events.clock import SystemClock
from chronicled.runtimes.docker.images import Images, open_images
from chronicled.runtimes.docker.images_settings import ImageSettings

OpenImages = Callable[..., AbstractAsyncContextManager[Images]]


@pytest.fixture(scope="session")
def registry_program() -> str:
    """Path of a registry."""
    found = subprocess.run(
        [str(ROOT / "tests/engine/registry")], check=True, timeout=240, capture_output=True, text=True
    )
    return found.stdout.strip()


@contextlib.asynccontextmanager
async def _alone() -> AsyncGenerator[None]:
    """Wait until no test of another process uses built images: their names lie in one place, whoever builds them."""
    with await asyncio.to_thread(open, Path(tempfile.gettempdir()) / "chronicled-test-images.lock", "wb") as lock:
        # In the queue: who only looked now and then would find it taken by the other's next test, time and again.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
async def docker(engine: Engine) -> AsyncIterator[Any]:
    """The engine's client; images from the test's registries and built ones are removed with the test."""
    async with _alone(), Docker() as client:
        images: Any = client.images
        before = {each["Id"] for each in await images.list(all=True)}
        yield client
        ours = (*(f"{host}/" for host in HOSTS), "chronicled.invalid/")
        for each in await images.list():
            names: list[str] = [*(each["RepoTags"] or []), *(each["RepoDigests"] or [])]
            for name in names:
                if name.startswith(ours) and "/cli/" not in name and each["Id"] not in before:
                    # With its last tag an image's digests went already.
                    with contextlib.suppress(DockerError):
                        await images.delete(name, force=True)


@pytest.fixture
async def registry(tmp_path: Path, registry_program: str) -> AsyncIterator[Registry]:
    """A registry that lets anybody in."""
    registry = Registry(tmp_path / "registry", registry_program)
    await registry.start()
    yield registry
    await registry.kill()


@pytest.fixture
async def closed_registry(tmp_path: Path, registry_program: str) -> AsyncIterator[Registry]:
    """A registry that wants credentials."""
    registry = Registry(tmp_path / "closed", registry_program, auth=True)
    await registry.start()
    yield registry
    await registry.kill()


@pytest.fixture
def images(docker: Any, tmp_path: Path) -> OpenImages:
    """Open the images of the engine, with settings."""

    def make(**settings: Any) -> AbstractAsyncContextManager[Images]:
        async def connect() -> Any:
            return docker

        return open_images(connect, ImageSettings(**settings), SystemClock(), str(tmp_path / "images.json"))

    return make
