"""Files in containers: what every runtime promises of them, in images with and without anything of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.fixture import DEBIAN, FILE, MUSL, NO_PYTHON
from tests.engine.own import OwnEngine
from tests.integration.docker.host import isolated, running, runtime_of, serving

from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.testing import FrameWorker
from chronicled.runtimes.testing_files import FileContract

pytestmark = pytest.mark.usefixtures("engine")


class TestFilesInContainers(FileContract):
    """Debian with and without Python, musl, and an image of one text file; hardened, under users of any number."""

    @pytest.fixture(params=[(DEBIAN, "1000:1000"), (NO_PYTHON, "54321:12345"), (MUSL, "1000"), (FILE, "54321:12345")])
    async def worker(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FrameWorker]:
        """A worker of a container with a read-only root."""
        image, user = request.param
        asked = SandboxRequest(read_only=True, user=user)
        async with running(runtime_of()) as runtime, serving(runtime, tmp_path, asked, image=image) as (worker, *_):
            yield worker

    @pytest.fixture
    def has_git(self, request: pytest.FixtureRequest) -> bool:
        """Only Debian's image has one."""
        return request.node.callspec.params["worker"][0] in {DEBIAN, NO_PYTHON}


class TestFilesUnderGvisor(FileContract):
    """A kernel of another make, without all that Linux has."""

    @pytest.fixture(params=[(DEBIAN, "1000:1000"), (MUSL, "1000"), (FILE, "54321:12345")])
    async def worker(
        self, request: pytest.FixtureRequest, gvisor: OwnEngine, tmp_path: Path
    ) -> AsyncIterator[FrameWorker]:
        """A worker of a container that gVisor isolates, with a read-only root."""
        image, user = request.param
        asked = SandboxRequest(read_only=True, user=user)
        runtime = isolated(gvisor.host)
        async with running(runtime), serving(runtime, tmp_path, asked, image=image) as (worker, *_):
            yield worker

    @pytest.fixture
    def has_git(self, request: pytest.FixtureRequest) -> bool:
        """Only Debian's image has one."""
        return request.node.callspec.params["worker"][0] in {DEBIAN}
